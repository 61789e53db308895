/**
 * The periodic work on the database: roll-ups, partitions, retention, and forgetting workers. Every process tries; where two would be in each other's way,
 * the database lets one of them work.
 */
import {
  type Database,
  type DeleteOldTasksOptions,
  deleteOldQueueMinutes,
  deleteOldRollUps,
  deleteOldTasks,
  deleteSilentWorkers,
  maintainPartitions,
  rollUp,
  sealRollUps,
} from "@celery-metrics-exporter/db";
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

export interface MaintenanceOptions {
  readonly database: Database;
  /** Undefined: no task is deleted. */
  readonly limits: RetentionLimits | undefined;
  /** Days for which events are kept, 0 forever. Undefined: no events are stored. */
  readonly historyDays: number | undefined;
  /** Days for which roll-ups are kept, 0 forever. */
  readonly statisticsDays: number;
  readonly workerExpiryDays: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly rollUpEveryMs?: number;
  readonly cleanEveryMs?: number;
}

export interface Maintenance {
  /** Waits for running statements. Idempotent. */
  stop(): Promise<void>;
}

const ROLL_UP_EVERY_MS = 5_000;
const CLEAN_EVERY_MS = 10 * 60_000;
/** Rolling up pauses for this many times as long as it took, so that it takes 1 % of a core at most, unless the pause would be longer than a minute. */
const PAUSE_FACTOR = 100;
const LONGEST_PAUSE_MS = 60_000;

/** Works from its creation until `stop`. What fails is logged and retried at the next interval. */
export function startMaintenance(options: MaintenanceOptions): Maintenance {
  const { logger, rollUpEveryMs = ROLL_UP_EVERY_MS, cleanEveryMs = CLEAN_EVERY_MS } = options;
  let tookMs = 0;
  const rollingUp = new Repeat(
    async (signal) => {
      const startedAt = performance.now();
      await rollUp(options.database, { signal }).finally(() => (tookMs = performance.now() - startedAt));
    },
    {
      everyMs: () => Math.max(spread(rollUpEveryMs), Math.min(tookMs * PAUSE_FACTOR, LONGEST_PAUSE_MS)),
      onError: ({ message }) => logger.warn({ reason: message }, "tasks could not be counted for statistics, retrying later"),
    },
  );
  const cleaning = new Repeat(cleanerOf(options), {
    everyMs: () => spread(cleanEveryMs),
    onError: ({ message }) => logger.warn({ reason: message }, "old rows could not be deleted, retrying later"),
  });
  return { stop: async () => void (await Promise.all([rollingUp.stop(), cleaning.stop()])) };
}

/** Spreads the processes out, even if they were started together. */
function spread(intervalMs: number): number {
  return intervalMs * (0.5 + Math.random() / 2);
}

/** Deletes what is old. Roll-ups go on counting the tasks that are deleted. */
function cleanerOf({ database, limits, historyDays, statisticsDays, workerExpiryDays, logger, metrics }: MaintenanceOptions) {
  const deletedTotal = metrics.counter("postgres_rows_deleted_total", "Rows of celery_task that retention deleted.");
  const maintainEvents = async (): Promise<void> => {
    if (historyDays === undefined) return;
    const { created, dropped } = await maintainPartitions(database, historyDays);
    if (created + dropped > 0) logger.info({ created, dropped, days: historyDays }, "partitions of celery_task_event changed");
  };
  return async (signal: AbortSignal): Promise<void> => {
    // The rest does not depend on it.
    await maintainEvents().catch((thrown: unknown) => {
      logger.warn({ reason: toError(thrown).message }, "partitions of celery_task_event could not be changed, retrying later");
    });
    const shortest = limits && shortestDays(limits);
    if (limits !== undefined && shortest !== undefined) {
      await sealRollUps(database, shortest, signal);
      const deleted = await deleteOldTasks(database, { ...limits, signal });
      deletedTotal.inc(deleted);
      if (deleted > 0) logger.info({ deleted, days: limits.olderThanDays, ...limits.byState }, "old tasks deleted");
    }
    if (statisticsDays > 0) {
      await deleteOldRollUps(database, statisticsDays, signal);
      await deleteOldQueueMinutes(database, statisticsDays, signal);
    }
    if (workerExpiryDays > 0) await deleteSilentWorkers(database, workerExpiryDays);
  };
}
