import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, gzip } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const OUT = join(import.meta.dirname, "dist/client");

/** The first paint waits for the script, which knows the theme. */
const blockRendering: Plugin = {
  name: "block-rendering",
  transformIndexHtml: {
    order: "post",
    handler: (html) => html.replaceAll(" crossorigin", "").replace('<script type="module"', '<script type="module" blocking="render"'),
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

export default defineConfig({
  root: "client",
  // Relative addresses work below any path.
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: { outDir: OUT, emptyOutDir: true, target: "es2023", modulePreload: { polyfill: false }, assetsInlineLimit: 0, sourcemap: false },
  plugins: [blockRendering, compressed],
});
