/** What a stack shows of an app in one file. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";

const run = promisify(execFile);
const BUNDLE = resolve(import.meta.dirname, "../../scripts/bundle.mjs");

/** An app whose code comes before and behind that of two libraries. */
const FILES: Readonly<Record<string, string>> = {
  "package.json": '{ "type": "module" }',
  "node_modules/first/package.json": '{ "type": "module", "exports": "./first.js" }',
  "node_modules/first/first.js": 'import { inSecond } from "second";\nexport function inFirst(call) {\n  inSecond(call);\n}\n',
  "node_modules/second/package.json": '{ "type": "module", "exports": "./second.js" }',
  "node_modules/second/second.js": "export function inSecond(call) {\n  call();\n}\n",
  "dist/before.js": "export function inBefore() {\n  throw new Error('stack');\n}\n",
  "dist/main.js": `import { inBefore } from "./before.js";
import { inFirst } from "first";
function inMain() {
  inFirst(inBefore);
}
try {
  inMain();
} catch (thrown) {
  console.log(thrown.stack);
}
`,
};

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "bundle-"));
  for (const [path, text] of Object.entries(FILES)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
  }
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it("names the file of each function of ours, and for a library's a position in the bundle", async () => {
  await run(process.execPath, [BUNDLE], { cwd: folder });
  const { stdout } = await run(process.execPath, ["--enable-source-maps", "dist/bundle.js"], { cwd: folder });
  const frames = [...stdout.matchAll(/at (in\w+) \(.*?(\w+\.js):(\d+):\d+\)/g)].map(([, name, file, line]) =>
    file === "bundle.js" ? [name, file] : [name, file, Number(line)],
  );
  expect(frames).toEqual([
    ["inBefore", "before.js", 2],
    ["inSecond", "bundle.js"],
    ["inFirst", "bundle.js"],
    ["inMain", "main.js", 4],
  ]);
});
