/**
 * `pnpm test:mutation [paths]`: makes small changes to the pure core, and reports those that no test notices (docs/mutation.md). A path is a
 * package or a file. Default: all that `stryker.config.json` lists. Each package runs separately, with its own tests.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "./lib/child.mjs";
import { Failure, runScript, step } from "./lib/console.mjs";
import { ROOT } from "./lib/workspace.mjs";

await runScript(async () => {
  const patterns = /** @type {{ mutate: string[] }} */ (JSON.parse(readFileSync(join(ROOT, "stryker.config.json"), "utf8"))).mutate;
  const packages = [...new Set(patterns.map(packageOf))];
  const paths = process.argv.slice(2).map((path) => path.replace(/^\.\/|\/$/g, ""));
  const unknown = paths.find((path) => !packages.includes(packageOf(path)));
  if (unknown !== undefined) throw new Failure(`${unknown} is in none of: ${packages.join(", ")}`, 64);
  let code = 0;
  for (const name of packages) {
    const own = paths.filter((path) => packageOf(path) === name);
    if (paths.length > 0 && own.length === 0) continue;
    const mutated = own.length === 0 || own.includes(name) ? patterns.filter((pattern) => packageOf(pattern) === name) : own;
    step(`${name}: ${mutated.join(", ")}`);
    const options = ["--mutate", mutated.join(), "--incrementalFile", `.stryker/${name.replace("/", "-")}.json`];
    const ended = await run(process.execPath, [join(ROOT, "node_modules/@stryker-mutator/core/bin/stryker.js"), "run", ...options], {
      cwd: ROOT,
      env: { ...process.env, MUTATION_PACKAGE: name },
    });
    if (ended !== 0) code = ended;
  }
  return code;
});

/** @param {string} path */
function packageOf(path) {
  return path.split("/", 2).join("/");
}
