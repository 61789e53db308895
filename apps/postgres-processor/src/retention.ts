/** Deletes old tasks at intervals. Every process tries; the database allows one at a time (see `deleteOldTasks`). */
import { deleteOldTasks, sealRollUps, type Database } from "@celery-metrics-exporter/db";
import { type Logger, type Metrics, Repeat } from "@celery-metrics-exporter/runtime";

export interface RetentionOptions {
  readonly database: Database;
  readonly days: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly intervalMs?: number;
}

const INTERVAL_MS = 10 * 60_000;

/** Works from its creation until `stop`, which waits for a running statement. A failure is logged and retried at the next interval. */
export function startRetention({ database, days, logger, metrics, intervalMs = INTERVAL_MS }: RetentionOptions): Repeat {
  const deletedTotal = metrics.counter("postgres_rows_deleted_total", "Rows of celery_task that retention deleted.");
  const work = async (signal: AbortSignal): Promise<void> => {
    await sealRollUps(database, days, signal);
    const deleted = await deleteOldTasks(database, { olderThanDays: days, signal });
    deletedTotal.inc(deleted);
    if (deleted > 0) logger.info({ deleted, days }, "old tasks deleted");
  };
  return new Repeat(work, {
    // Spreads the processes out, even if they were started together.
    everyMs: () => intervalMs * (0.5 + Math.random() / 2),
    onError: ({ message }) => logger.warn({ reason: message }, "old tasks could not be deleted, retrying later"),
  });
}
