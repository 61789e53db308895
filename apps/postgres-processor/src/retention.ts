/** Deletes old tasks now and then. Every process tries; the database lets one at a time (see `deleteOldTasks`). */
import { deleteOldTasks, type Database } from "@celery-metrics-exporter/db";
import { pause, toError, type Logger, type Metrics } from "@celery-metrics-exporter/runtime";

export interface RetentionOptions {
  readonly database: Database;
  readonly days: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly intervalMs?: number;
}

const INTERVAL_MS = 10 * 60_000;

/** Works from its creation until `stop`. A failure is logged and tried again at the next interval. */
export class Retention {
  readonly #stopped = new AbortController();
  readonly #done: Promise<void>;

  constructor(options: RetentionOptions) {
    this.#done = this.#work(options);
  }

  /** Waits for the statement that runs. Safe twice. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#done;
  }

  async #work({ database, days, logger, metrics, intervalMs = INTERVAL_MS }: RetentionOptions): Promise<void> {
    const { signal } = this.#stopped;
    const deletedTotal = metrics.counter("postgres_rows_deleted_total", "Rows of celery_task that retention has deleted.");
    while (!signal.aborted) {
      // Not all processes at the same moment, though they were started together.
      await pause(intervalMs * (0.5 + Math.random() / 2), signal);
      if (signal.aborted) return;
      try {
        const deleted = await deleteOldTasks(database, { olderThanDays: days, signal });
        deletedTotal.inc(deleted);
        if (deleted > 0) logger.info({ deleted, days }, "old tasks deleted");
      } catch (thrown) {
        logger.warn({ reason: toError(thrown).message }, "old tasks could not be deleted, trying again later");
      }
    }
  }
}
