/** `pnpm bench [--quick] [--rounds <n>] [--only <scenario>,…]`: installs what the benchmark needs, builds the product, and measures it. */
import { join } from "node:path";
import { run } from "./lib/child.mjs";
import { EXIT_UNAVAILABLE, Failure, runScript } from "./lib/console.mjs";
import { provide, remedy, titles } from "./lib/requirements.mjs";
import { prepareWorkspace, ROOT } from "./lib/workspace.mjs";

await runScript(async () => {
  const missing = await provide(["redis", "rabbitmq", "postgres"]);
  if (missing.length > 0) {
    throw new Failure(`The benchmark needs ${titles(missing)}, which this machine lacks. Run:\n\n  ${remedy(missing)}\n`, EXIT_UNAVAILABLE);
  }
  await prepareWorkspace();
  return run(process.execPath, ["--import", "tsx", join(ROOT, "test/bench/main.ts"), ...process.argv.slice(2)], { cwd: ROOT });
});
