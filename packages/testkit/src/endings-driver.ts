/** Runs `celery/endings.py`: sends one task for each way in which a task can end. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { celeryEnvironment, requireCeleryPython, type CeleryWorkerOptions } from "./celery-worker.ts";
import { CELERY_FOLDER } from "./services/celery.mjs";

/** The queues that a worker of `endings` consumes. */
export const ENDINGS_QUEUES = ["first", "second"] as const;

/**
 * Sends the tasks, and revokes those that end so. The worker must be ready.
 *
 * @returns each task's id, by the name of its ending.
 */
export async function sendEndings(
  brokerUrl: string,
  pool: NonNullable<CeleryWorkerOptions["pool"]>,
): Promise<Readonly<Record<string, string>>> {
  const { stdout } = await promisify(execFile)(requireCeleryPython(), [join(CELERY_FOLDER, "endings.py"), "--pool", pool], {
    env: celeryEnvironment(brokerUrl),
  });
  return JSON.parse(stdout) as Record<string, string>;
}
