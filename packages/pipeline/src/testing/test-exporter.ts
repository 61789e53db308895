/** Runs an exporter without queues. Like its host, passes scheduled ids to the second stage after their delay. */
import {
  BaseConfig,
  Health,
  Lifecycle,
  Metrics,
  UnavailableError,
  createHttpServer,
  createLogger,
  loadConfig,
  toError,
  type Environment,
} from "@celery-metrics-exporter/runtime";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Exporter, ExporterDefinition, ProcessingJob, Schedule } from "../contract/exporter.ts";

const RETRY_MS = 50;

/** The ids of one `schedule` call. */
export interface ScheduledJob extends ProcessingJob {
  readonly ids: readonly string[];
  readonly delayMs: number;
}

export interface TestExporter {
  /** Created but not started. */
  readonly exporter: Exporter;
  /** The metrics of its process. */
  readonly metrics: Metrics;
  /**
   * Resolves when nothing is scheduled any more.
   *
   * @throws {Error} the first error of `process` that is not an `UnavailableError`.
   */
  idle(): Promise<void>;
  /**
   * From now on keeps the scheduled jobs instead of running them, as a queue would.
   *
   * @returns the kept jobs. Those that are scheduled later are added.
   */
  holdJobs(): readonly ScheduledJob[];
  /** Runs the jobs that are held, and holds no more. */
  releaseJobs(): void;
  /** Stops the exporter and releases what it acquired. */
  close(): Promise<void>;
}

/** Creates an exporter from its definition, with the settings in `env` and otherwise the defaults. */
export async function createTestExporter(definition: ExporterDefinition, env: Environment): Promise<TestExporter> {
  const logger = createLogger(definition.name, "silent");
  const lifecycle = new Lifecycle(logger);
  const health = new Health();
  const metrics = new Metrics();
  const http = createHttpServer(health, metrics);
  lifecycle.defer("http", () => http.close());
  const config = loadConfig(definition.Config.safeExtend({ ...BaseConfig.shape, ...definition.Config.shape }), env);
  const closed = new AbortController();
  const pending = new Set<Promise<void>>();
  const held: ScheduledJob[] = [];
  let isHolding = false;
  let failure: Error | undefined;

  const run = async ({ id, ids, delayMs }: ScheduledJob): Promise<void> => {
    await sleep(delayMs);
    while (!closed.signal.aborted) {
      try {
        await exporter.process?.(ids, closed.signal, { id });
        return;
      } catch (thrown) {
        if (!(thrown instanceof UnavailableError)) {
          failure ??= toError(thrown);
          return;
        }
        await sleep(RETRY_MS);
      }
    }
  };
  const begin = (job: ScheduledJob): void => {
    const running = run(job).finally(() => pending.delete(running));
    pending.add(running);
  };
  const schedule: Schedule = async (ids, { delayMs }) => {
    if (ids.length === 0) return;
    const job = { id: randomUUID(), ids: [...ids], delayMs };
    if (isHolding) held.push(job);
    else begin(job);
  };
  const exporter = await definition.create({ config, logger, lifecycle, health, metrics, http, schedule });

  return {
    exporter,
    metrics,
    idle: async () => {
      while (pending.size > 0) await Promise.all(pending);
      if (failure !== undefined) throw failure;
    },
    holdJobs: () => {
      isHolding = true;
      return held;
    },
    releaseJobs: () => {
      isHolding = false;
      for (const job of held.splice(0)) begin(job);
    },
    close: async () => {
      closed.abort();
      await Promise.all(pending);
      await exporter.stop?.();
      await lifecycle.close();
    },
  };
}
