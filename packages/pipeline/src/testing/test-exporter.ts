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
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import type { Exporter, ExporterDefinition, Schedule } from "../contract/exporter.ts";

const RETRY_MS = 50;

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
  const config = loadConfig(z.object({ ...BaseConfig.shape, ...definition.Config.shape }), env);
  const closed = new AbortController();
  const pending = new Set<Promise<void>>();
  let failure: Error | undefined;
  let jobs = 0;

  const run = async (ids: readonly string[], delayMs: number, id: string): Promise<void> => {
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
  const schedule: Schedule = async (ids, { delayMs }) => {
    if (ids.length === 0) return;
    const job = run([...ids], delayMs, String(++jobs)).finally(() => pending.delete(job));
    pending.add(job);
  };
  const exporter = await definition.create({ config, logger, lifecycle, health, metrics, http, schedule });

  return {
    exporter,
    metrics,
    idle: async () => {
      while (pending.size > 0) await Promise.all(pending);
      if (failure !== undefined) throw failure;
    },
    close: async () => {
      closed.abort();
      await Promise.all(pending);
      await exporter.stop?.();
      await lifecycle.close();
    },
  };
}
