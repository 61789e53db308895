import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, gzip } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const CLIENT = join(import.meta.dirname, "client");
const OUT = join(import.meta.dirname, "dist/client");

/** A small script runs before everything else. The first paint waits for no other. */
const earlyFirst: Plugin = {
  name: "early-first",
  transformIndexHtml: {
    order: "post",
    handler: (html, { bundle = {} }) => {
      const early = Object.values(bundle).find((file) => file.type === "chunk" && file.name === "early");
      if (early === undefined) throw new Error("early.ts was not built");
      return html.replaceAll(" crossorigin", "").replace("</title>", `</title>\n    <script src="./${early.fileName}"></script>`);
    },
  },
};

/** Files for browsers that take them compressed, so that no request costs this. */
const compressed: Plugin = {
  name: "compressed",
  apply: "build",
  async closeBundle() {
    const folder = join(OUT, "assets");
    for (const name of await readdir(folder)) {
      const content = await readFile(join(folder, name));
      await writeFile(join(folder, `${name}.gz`), await promisify(gzip)(content, { level: 9 }));
      await writeFile(join(folder, `${name}.br`), await promisify(brotliCompress)(content));
    }
  },
};

// The demo and the tests install with NODE_ENV=development. Vite would build for development too: larger, and with the paths of this machine.
process.env.NODE_ENV = "production";

export default defineConfig({
  root: "client",
  // Relative addresses work below any path.
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: "es2023",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    sourcemap: false,
    // Tells the server which files each page needs.
    manifest: "manifest.json",
    rolldownOptions: { input: { index: join(CLIENT, "index.html"), early: join(CLIENT, "early.ts") } },
  },
  plugins: [earlyFirst, compressed],
});
