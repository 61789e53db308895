/** The postgres exporter's settings. */
import { DATABASE_URL, HISTORY_MODES } from "@celery-metrics-exporter/db";
import { BaseConfig, duration, integer, wholeNumber } from "@celery-metrics-exporter/runtime";
import { z } from "zod";

function retentionDays(which: string): z.ZodOptional<z.ZodType<number>> {
  return wholeNumber(0, 36_500)
    .optional()
    .describe(`The same for tasks ${which}. 0 keeps them forever. Default: \`POSTGRES_RETENTION_DAYS\`.`);
}

export const Config = z.object({
  DATABASE_URL,
  POSTGRES_POOL_SIZE: integer(6, 1, 1_000).describe(
    "Maximum number of connections of one process. Two more than `PROCESSOR_CONCURRENCY` is enough for a connection per batch, one for counting and one for retention.",
  ),
  POSTGRES_STATEMENT_TIMEOUT_MS: duration("wait ms", 30_000, { min: 0 }).describe(
    "How long a statement may take. After that it is cancelled and retried, finally row by row, so that a locked row does not delay other rows. 0 means no limit. Behind a connection pooler such as PgBouncer, each statement sets the limit in its own transaction.",
  ),
  POSTGRES_RETENTION_DAYS: integer(0, 0, 36_500).describe(
    "Deletes a row once its creation and its task's last event are both more than this many days ago. For an unfinished task, its ETA must be that old too. 0 keeps all rows forever.",
  ),
  POSTGRES_RETENTION_DAYS_SUCCESS: retentionDays("that succeeded"),
  POSTGRES_RETENTION_DAYS_FAILURE: retentionDays("that failed"),
  POSTGRES_RETENTION_DAYS_REVOKED: retentionDays("that were revoked"),
  POSTGRES_RETENTION_DAYS_REJECTED: retentionDays("that were rejected"),
  POSTGRES_HISTORY: z
    .enum(HISTORY_MODES)
    .default("unusual")
    .describe(
      "Which events to keep in `celery_task_event`. `unusual`: those that a row cannot show, such as each retry with its exception and traceback, and second runs. `all`: every event of a task. `off`: none; then the user needs no rights on that table.",
    ),
  POSTGRES_HISTORY_DAYS: integer(30, 0, 36_500).describe(
    "Drops events from `celery_task_event` after this many days, a day at a time. 0 keeps them forever.",
  ),
  POSTGRES_STATISTICS_DAYS: integer(400, 0, 36_500).describe(
    "Deletes counts in `celery_task_period` and lengths in `celery_queue_minute` after this many days. They stay when their tasks are deleted. 0 keeps them forever.",
  ),
  POSTGRES_STATISTICS_MINUTE_DAYS: integer(30, 0, 36_500).describe(
    "Deletes counts by minute, in `celery_task_minute`, after this many days. Counts by hour and day stay. A task that was first seen before is not counted again, whatever happens to it. 0 keeps them as long as the others.",
  ),
  POSTGRES_WORKER_EXPIRY_DAYS: integer(30, 0, 36_500).describe(
    "Forgets a worker that has been silent for this many days. Its unfinished tasks are then no longer found as lost. 0 keeps all workers.",
  ),
  STARTUP_TIMEOUT_SECONDS: BaseConfig.shape.STARTUP_TIMEOUT_SECONDS,
});
export type Config = z.output<typeof Config>;
