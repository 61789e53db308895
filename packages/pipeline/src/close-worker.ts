/** Ends a worker, with or without Redis. */
import { pause, type Logger } from "@celery-metrics-exporter/runtime";
import type { StageWorker } from "./stage-worker.ts";

/** How long a drain waits for a Redis that is away. */
const REDIS_PATIENCE_MS = 2_000;
/** How long jobs that have been told to stop may take to do so, and to go back to their queue. */
const OVERDUE_PATIENCE_MS = 2_000;
const POLL_MS = 200;

/** Whatever its payloads decode to. */
export type AnyStageWorker = Pick<StageWorker<unknown>, "start" | "close" | "abandon" | "isConnected">;

/**
 * Resolves when the worker has let go of its jobs, or there is no point in waiting for that any longer.
 *
 * @param overdue of the drain: what is under way has to stop.
 */
export async function closeWorker(worker: AnyStageWorker, overdue: AbortSignal, logger: Logger): Promise<void> {
  const closed = new AbortController();
  const close = async (): Promise<void> => {
    await worker.close();
    closed.abort();
  };
  const abandonInTime = async (): Promise<void> => {
    const away = new Stopwatch();
    const late = new Stopwatch();
    while (!closed.signal.aborted) {
      const awayMs = away.measure(!worker.isConnected);
      const lateMs = late.measure(overdue.aborted);
      if (awayMs >= REDIS_PATIENCE_MS || lateMs >= OVERDUE_PATIENCE_MS) {
        logger.warn({ awayMs, lateMs }, "a worker does not end: jobs under way will be taken over");
        worker.abandon();
        return;
      }
      await pause(POLL_MS, closed.signal);
    }
  };
  await Promise.race([close(), abandonInTime()]);
}

/** For how long something has been so without a break. */
class Stopwatch {
  #since: number | undefined;

  measure(isSo: boolean): number {
    if (isSo) this.#since ??= performance.now();
    else this.#since = undefined;
    return this.#since === undefined ? 0 : performance.now() - this.#since;
  }
}
