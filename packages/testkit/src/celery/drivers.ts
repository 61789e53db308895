/**
 * Runs `celery/drive.py`, which sends the shop's tasks and reports what Celery really did with them, and `celery/endings.py`, which sends one
 * task for each way in which a task can end.
 */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { celeryEnvironment, requireCeleryPython, type CeleryWorkerOptions } from "./celery-worker.ts";
import { CELERY_FOLDER } from "../services/celery.mjs";
import { removeFolder, temporaryFolder } from "../services/folders.mjs";

export interface ShopDriverOptions {
  readonly brokerUrl: string;
  /** The file that the workers use as SHOP_LOG. */
  readonly shopLog: string;
  /** Number of tasks to send. */
  readonly count: number;
  /** Tasks per second; default as fast as possible. */
  readonly rate?: number;
  /** `quick`: only tasks that succeed at once. */
  readonly mix?: "all" | "quick";
  /** Also revoke one waiting and one running task. */
  readonly revoke?: boolean;
  /** The same seed sends the same tasks. */
  readonly seed?: number;
  /** How long to wait until the sent tasks end. */
  readonly waitSeconds?: number;
}

/** Times are Unix seconds, `runtime` is in seconds; a field is absent if its event did not happen. */
export interface ShopTask {
  readonly name: string;
  readonly queue: string;
  /** Celery's states, and IGNORED. */
  readonly status: "SUCCESS" | "FAILURE" | "REVOKED" | "REJECTED" | "IGNORED" | "RETRY" | "STARTED" | "PENDING";
  readonly retries: number;
  readonly runtime?: number;
  readonly worker?: string;
  readonly sent_at?: number;
  readonly started_at?: number;
  readonly finished_at?: number;
}

export interface ShopReport {
  /** Number of tasks that the driver sent; `tasks` also contains those that tasks sent. */
  readonly sent: number;
  /** Whether every task ended in time. */
  readonly ended: boolean;
  readonly tasks: Readonly<Record<string, ShopTask>>;
}

/** Sends the tasks, waits until they end, and returns the truth about each, by id. */
export async function driveShop({ brokerUrl, shopLog, ...options }: ShopDriverOptions): Promise<ShopReport> {
  const { count, rate = 0, mix = "all", revoke = false, seed, waitSeconds = 60 } = options;
  const folder = temporaryFolder("driver");
  const output = join(folder, "report.json");
  const args = ["--count", count, "--rate", rate, "--mix", mix, "--wait-seconds", waitSeconds, "--output", output].map(String);
  if (seed !== undefined) args.push("--seed", String(seed));
  if (revoke) args.push("--revoke");
  try {
    await promisify(execFile)(requireCeleryPython(), [join(CELERY_FOLDER, "drive.py"), ...args], {
      env: celeryEnvironment(brokerUrl, { SHOP_LOG: shopLog }),
    }).catch((error: unknown) => {
      if ((error as { code?: unknown }).code !== 1) throw error;
    });
    return JSON.parse(readFileSync(output, "utf8")) as ShopReport;
  } finally {
    removeFolder(folder);
  }
}

/** The queues that a worker of `endings` must consume. */
export const ENDINGS_QUEUES = ["first", "second"] as const;

/**
 * Sends the tasks, and revokes those that end in a revocation. The worker must be ready.
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

/** Sends one task of `inspected` with each priority to a queue. `env` as for its workers. */
export async function sendPrioritized(
  brokerUrl: string,
  queue: string,
  priorities: readonly number[],
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  await promisify(execFile)(requireCeleryPython(), [join(CELERY_FOLDER, "inspected.py"), queue, ...priorities.map(String)], {
    env: celeryEnvironment(brokerUrl, env),
  });
}
