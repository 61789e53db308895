/** The postgres exporter's settings. */
import { databaseUrlProblem } from "@celery-metrics-exporter/db";
import { BaseConfig, duration, integer, secret } from "@celery-metrics-exporter/runtime";
import { z } from "zod";

export const Config = z.object({
  DATABASE_URL: secret(
    z.string().superRefine((value, context) => {
      const message = databaseUrlProblem(value);
      if (message !== undefined) context.addIssue({ code: "custom", message });
    }),
  ).describe(
    "PostgreSQL that the rows go to, such as `postgres://user:password@host/database`; or `pglite:<folder>` for one embedded in the process.",
  ),
  POSTGRES_POOL_SIZE: integer(5, 1, 1_000).describe(
    "Most connections of one process. One more than `PROCESSOR_CONCURRENCY` lets every batch have its own, and retention too.",
  ),
  POSTGRES_STATEMENT_TIMEOUT_MS: duration("wait ms", 30_000, { min: 0 }).describe(
    "How long a statement may take before it is given up and tried again, in the end row by row: a row that is locked then holds up no other. 0 sets no limit. Behind a connection pooler such as PgBouncer each statement sets it in a transaction of its own.",
  ),
  POSTGRES_RETENTION_DAYS: integer(0, 0, 36_500).describe(
    "Deletes a task, in small steps, once its row was made and its last event came longer ago than this; a task that has not finished also stays until its ETA is as old. 0 keeps all for ever.",
  ),
  STARTUP_TIMEOUT_SECONDS: BaseConfig.shape.STARTUP_TIMEOUT_SECONDS,
});
export type Config = z.output<typeof Config>;
