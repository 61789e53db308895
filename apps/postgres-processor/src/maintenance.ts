/**
 * The periodic work on the database: roll-ups, retention with the partitions of events, and forgetting workers. Every process tries; where two would be in each other's way, the
 * database lets one of them work.
 */
import {
  type Database,
  type StatisticsDays,
  deleteOldQueueMinutes,
  deleteOldRollUps,
  deleteSilentWorkers,
  rollUp,
} from "@celery-metrics-exporter/db";
import { type Logger, type Metrics, Repeat } from "@celery-metrics-exporter/runtime";
import { type RetentionOptions, spread, startRetention } from "./retention.ts";

export interface MaintenanceOptions {
  readonly database: Database;
  /** See `RetentionOptions`. */
  readonly limits: RetentionOptions["limits"];
  readonly historyDays: RetentionOptions["historyDays"];
  readonly statisticsDays: StatisticsDays;
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
  const cleaning = new Repeat((signal) => clean(options, signal), {
    everyMs: () => spread(cleanEveryMs),
    onError: ({ message }) => logger.warn({ reason: message }, "old rows could not be deleted, retrying later"),
  });
  const retention = startRetention({ ...options, intervalMs: cleanEveryMs });
  return { stop: async () => void (await Promise.all([rollingUp.stop(), cleaning.stop(), retention.stop()])) };
}

async function clean({ database, statisticsDays, workerExpiryDays }: MaintenanceOptions, signal: AbortSignal): Promise<void> {
  await deleteOldRollUps(database, statisticsDays, signal);
  if (statisticsDays.all > 0) await deleteOldQueueMinutes(database, statisticsDays.all, signal);
  if (workerExpiryDays > 0) await deleteSilentWorkers(database, workerExpiryDays);
}
