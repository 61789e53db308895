/** Which Celery a Python has. */
import { UnavailableError, toError } from "@celery-metrics-exporter/runtime";
import { execFileSync } from "node:child_process";

/** Such as `5.2.6`. @throws {UnavailableError} when it has none. */
export function celeryVersion(python: string): string {
  try {
    return execFileSync(python, ["-c", "import celery; print(celery.__version__)"], {
      encoding: "utf8",
      timeout: 30_000,
      stdio: ["ignore", "pipe", "pipe"],
    }).trim();
  } catch (thrown) {
    const reason = toError(thrown).message.split("\n").at(-1) ?? "";
    throw new UnavailableError(`DEMO_CELERY_PYTHON: ${python} cannot import Celery (${reason}).`, { cause: thrown });
  }
}
