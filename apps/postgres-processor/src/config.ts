/** The postgres exporter's settings. */
import { DATABASE_URL } from "@celery-metrics-exporter/db";
import { BaseConfig, duration, integer } from "@celery-metrics-exporter/runtime";
import { z } from "zod";

export const Config = z.object({
  DATABASE_URL,
  POSTGRES_POOL_SIZE: integer(5, 1, 1_000).describe(
    "Maximum number of connections of one process. One more than `PROCESSOR_CONCURRENCY` is enough for a connection per batch and one for retention.",
  ),
  POSTGRES_STATEMENT_TIMEOUT_MS: duration("wait ms", 30_000, { min: 0 }).describe(
    "How long a statement may take. After that it is cancelled and retried, finally row by row, so that a locked row does not delay other rows. 0 means no limit. Behind a connection pooler such as PgBouncer, each statement sets the limit in its own transaction.",
  ),
  POSTGRES_RETENTION_DAYS: integer(0, 0, 36_500).describe(
    "Deletes a row once its creation and its task's last event are both more than this many days ago. For an unfinished task, its ETA must be that old too. 0 keeps all rows forever.",
  ),
  STARTUP_TIMEOUT_SECONDS: BaseConfig.shape.STARTUP_TIMEOUT_SECONDS,
});
export type Config = z.output<typeof Config>;
