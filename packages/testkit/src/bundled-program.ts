/** Programs of tests in one file each: Node.js starts them in half the CPU time, from the sources, without the build. */
import { join } from "node:path";
import { temporaryFolder } from "./services/folders.mjs";

/** CommonJS modules expect these names. An ES module has none of them. */
const COMMONJS_NAMES = [
  'import { createRequire as createRequireOfBundle } from "node:module";',
  'import { fileURLToPath as pathOfBundle } from "node:url";',
  "const require = createRequireOfBundle(import.meta.url), __filename = pathOfBundle(import.meta.url), __dirname = import.meta.dirname;",
].join(" ");

/** Bundles a program with everything that it imports, except native code. @returns the path of the bundle; it is removed with this process. */
export async function bundleProgram(entry: string): Promise<string> {
  const outfile = join(temporaryFolder("program"), "program.mjs");
  // Imported only here: most tests and the demo do without it.
  const { build } = await import("esbuild");
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: "node",
    format: "esm",
    conditions: ["source"],
    external: ["unix-dgram"],
    banner: { js: COMMONJS_NAMES },
    logLevel: "warning",
  });
  return outfile;
}
