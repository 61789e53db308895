/** Creates the project's own Python environment with Celery, for systems without a package of it. */
import { rmSync } from "node:fs";
import { dirname } from "node:path";
import { CELERY_ENVIRONMENT_PYTHON } from "../../packages/testkit/src/services/celery.mjs";
import { findProgram } from "../../packages/testkit/src/services/programs.mjs";
import { run } from "./child.mjs";
import { step } from "./console.mjs";

/** @returns {Promise<boolean>} whether it was created. */
export async function installCelery() {
  const python = findProgram(["python3"]);
  if (python === undefined) return false;
  const folder = dirname(dirname(CELERY_ENVIRONMENT_PYTHON));
  step(`Celery not found. Installing it with pip in ${folder}`);
  const made =
    (await run(python, ["-m", "venv", folder])) === 0 &&
    (await run(CELERY_ENVIRONMENT_PYTHON, ["-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "15", "celery[redis]"])) === 0;
  if (!made) rmSync(folder, { recursive: true, force: true });
  return made;
}
