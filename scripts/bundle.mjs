/**
 * Puts a compiled app and everything that it imports into one file, `dist/bundle.js`: a third of the CPU time at start, because Node.js
 * resolves and loads one module instead of a thousand. Runs in the app's folder, after the compiler.
 */
import { decode, encode } from "@jridgewell/sourcemap-codec";
import { build } from "esbuild";
import { writeFile } from "node:fs/promises";
import { relative, resolve } from "node:path";

const DIST = resolve("dist");
/** These load files that lie beside their modules, start themselves as programs, or load native code. They stay where they are. */
const SEPARATE = /^(?:@electric-sql\/|@bull-board\/|unix-dgram)|\/services\/[\w-]+\.mjs$/;
/** CommonJS modules expect these names. An ES module has none of them. */
const COMMONJS_NAMES = [
  'import { createRequire as createRequireOfBundle } from "node:module";',
  'import { fileURLToPath as pathOfBundle } from "node:url";',
  "const require = createRequireOfBundle(import.meta.url), __filename = pathOfBundle(import.meta.url), __dirname = import.meta.dirname;",
].join(" ");

/** Imports what is separate by its path, because not all of these packages are dependencies of the app itself. @type {import("esbuild").Plugin} */
const separatePackages = {
  name: "separate-packages",
  setup(bundle) {
    bundle.onResolve({ filter: SEPARATE }, async ({ path, importer, kind, resolveDir, pluginData }) => {
      if (pluginData === SEPARATE) return undefined;
      const found = await bundle.resolve(path, { importer, kind, resolveDir, pluginData: SEPARATE });
      return found.errors.length > 0 ? { path, external: true } : { path: `./${relative(DIST, found.path)}`, external: true };
    });
  },
};

const { outputFiles } = await build({
  entryPoints: ["dist/main.js"],
  outfile: "dist/bundle.js",
  bundle: true,
  platform: "node",
  target: "node20.20",
  format: "esm",
  // Node.js keeps the whole text in memory, twice as large if only one comment has a character beyond Latin-1.
  minifyWhitespace: true,
  legalComments: "linked",
  lineLimit: 160,
  sourcemap: true,
  sourcesContent: false,
  logLevel: "warning",
  banner: { js: COMMONJS_NAMES },
  plugins: [separatePackages],
  write: false,
});

for (const { path, text } of outputFiles) await writeFile(path, path.endsWith(".map") ? withoutLibraries(text) : text);

/**
 * Our own code is enough to read a stack. Node.js keeps the whole map in memory from the first error on: 70 MB with all libraries. A frame of a library
 * stays a position in the bundle, because the code of each begins with a segment without a source. Without it, the last one before it would count.
 *
 * @param {string} text
 */
function withoutLibraries(text) {
  const map = JSON.parse(text);
  const isOurs = map.sources.map((/** @type {string} */ source) => !source.includes("node_modules"));
  let wasOurs = true;
  const mappings = decode(map.mappings).map((line) =>
    line.flatMap((segment) => {
      const [column, source = -1] = segment;
      const before = wasOurs;
      wasOurs = isOurs[source] === true;
      /** @type {import("@jridgewell/sourcemap-codec").SourceMapSegment[]} */
      const kept = wasOurs ? [segment] : before ? [[column]] : [];
      return kept;
    }),
  );
  const sources = map.sources.map((/** @type {string} */ source, /** @type {number} */ index) => (isOurs[index] ? source : ""));
  return JSON.stringify({ ...map, sources, mappings: encode(mappings) });
}
