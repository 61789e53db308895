/** `node scripts/bootstrap.mjs`: installs and builds the workspace on a machine with only Node.js and npm. */
import { runScript, step } from "./lib/console.mjs";
import { prepareWorkspace } from "./lib/workspace.mjs";

await runScript(async () => {
  await prepareWorkspace();
  step("The workspace is installed and built.");
  return 0;
});
