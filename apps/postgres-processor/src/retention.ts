/**
 * Deletes old tasks, and creates and drops the partitions of their events, at intervals. Every process tries; the database allows one at a time (see
 * `deleteOldTasks` and `maintainPartitions`).
 */
import { type Database, type DeleteOldTasksOptions, deleteOldTasks, maintainPartitions, sealRollUps } from "@celery-metrics-exporter/db";
import { type Logger, type Metrics, Repeat, toError } from "@celery-metrics-exporter/runtime";
import type { Config } from "./config.ts";

export type RetentionLimits = Pick<DeleteOldTasksOptions, "olderThanDays" | "byState">;

/** Undefined if all tasks are kept. */
export function toRetentionLimits(config: Config): RetentionLimits | undefined {
  const { POSTGRES_RETENTION_DAYS: olderThanDays } = config;
  const byState = {
    ...(config.POSTGRES_RETENTION_DAYS_SUCCESS !== undefined && { SUCCESS: config.POSTGRES_RETENTION_DAYS_SUCCESS }),
    ...(config.POSTGRES_RETENTION_DAYS_FAILURE !== undefined && { FAILURE: config.POSTGRES_RETENTION_DAYS_FAILURE }),
    ...(config.POSTGRES_RETENTION_DAYS_REVOKED !== undefined && { REVOKED: config.POSTGRES_RETENTION_DAYS_REVOKED }),
    ...(config.POSTGRES_RETENTION_DAYS_REJECTED !== undefined && { REJECTED: config.POSTGRES_RETENTION_DAYS_REJECTED }),
  };
  const limits = { olderThanDays, byState };
  return shortestDays(limits) === undefined ? undefined : limits;
}

/** The shortest time for which any task is kept; undefined if all are kept forever. */
function shortestDays({ olderThanDays, byState = {} }: RetentionLimits): number | undefined {
  const days = [olderThanDays, ...Object.values(byState)].filter((each) => each > 0);
  return days.length === 0 ? undefined : Math.min(...days);
}

export interface RetentionOptions {
  readonly database: Database;
  /** Undefined: no task is deleted. */
  readonly limits: RetentionLimits | undefined;
  /** Days for which events are kept, 0 forever. Undefined: no events are stored. */
  readonly historyDays: number | undefined;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly intervalMs: number;
}

/** Spreads the processes out, even if they were started together. */
export function spread(intervalMs: number): number {
  return intervalMs * (0.5 + Math.random() / 2);
}

/** Works from its creation until `stop`, which waits for a running statement. A failure is logged and retried at the next interval. */
export function startRetention({ database, limits, historyDays, logger, metrics, intervalMs }: RetentionOptions): Repeat {
  const deletedTotal = metrics.counter("postgres_rows_deleted_total", "Rows of celery_task that retention deleted.");
  const deleteTasks = async (signal: AbortSignal): Promise<void> => {
    const shortest = limits && shortestDays(limits);
    if (limits === undefined || shortest === undefined) return;
    await sealRollUps(database, shortest, signal);
    const deleted = await deleteOldTasks(database, { ...limits, signal });
    deletedTotal.inc(deleted);
    if (deleted > 0) logger.info({ deleted, days: limits.olderThanDays, ...limits.byState }, "old tasks deleted");
  };
  const maintainEvents = async (): Promise<void> => {
    if (historyDays === undefined) return;
    const { created, dropped } = await maintainPartitions(database, historyDays);
    if (created + dropped > 0) logger.info({ created, dropped, days: historyDays }, "partitions of celery_task_event changed");
  };
  const work = async (signal: AbortSignal): Promise<void> => {
    // Neither depends on the other.
    await maintainEvents().catch((thrown: unknown) => {
      logger.warn({ reason: toError(thrown).message }, "partitions of celery_task_event could not be changed, retrying later");
    });
    await deleteTasks(signal);
  };
  return new Repeat(work, {
    everyMs: () => spread(intervalMs),
    onError: ({ message }) => logger.warn({ reason: message }, "old tasks could not be deleted, retrying later"),
  });
}
