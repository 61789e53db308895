/** The postgres exporter: merges every event into its task's row in `celery_task`, or its worker's in `celery_worker`. */
import {
  RefusedDataError,
  checkMayDelete,
  checkMayMaintainPartitions,
  checkMigrated,
  checkQueueMinutes,
  checkRollUps,
  checkWorkers,
  connectDatabase,
  deleteTasks,
  mergeListened,
  mergeObservedWorkers,
  mergeQueueMinutes,
  mergeWorkerEvents,
  upsertTasks,
  type Database,
} from "@celery-metrics-exporter/db";
import type { CeleryEvent, Observation } from "@celery-metrics-exporter/celery";
import { defineExporter, type ExportedBatch, type Exporter, type ExporterContext } from "@celery-metrics-exporter/pipeline";
import { PermanentError, abortable } from "@celery-metrics-exporter/runtime";
import { Config } from "./config.ts";
import { DatabaseProbe } from "./database-probe.ts";
import { type Maintenance, startMaintenance } from "./maintenance.ts";
import { toRetentionLimits } from "./retention.ts";

export const postgres = defineExporter({
  name: "postgres",
  Config,
  create: (context) => new PostgresExporter(context),
});

class PostgresExporter implements Exporter {
  readonly #context: ExporterContext<Config>;
  #database: Database | undefined;
  #probe: DatabaseProbe | undefined;
  /** Number of running statements of batches. */
  #running = 0;
  /** When the last of them was answered, or when the first of them began. */
  #answeredAt = 0;
  #maintenance: Maintenance | undefined;

  constructor(context: ExporterContext<Config>) {
    this.#context = context;
  }

  /** @throws {UnavailableError} if the database cannot be reached, refuses the login or is not migrated; the message says what to do. */
  async start(): Promise<void> {
    const { config, logger, metrics, health } = this.#context;
    const component = health.component("database");
    const database = await connectDatabase({
      url: config.DATABASE_URL,
      poolSize: config.POSTGRES_POOL_SIZE,
      statementTimeoutMs: config.POSTGRES_STATEMENT_TIMEOUT_MS,
      startupTimeoutMs: config.STARTUP_TIMEOUT_SECONDS * 1_000,
      applicationName: "celery-metrics-exporter postgres-processor",
      logger,
      onConnectionLost: () => this.#probe?.askNow(),
    });
    this.#database = database;
    const { POSTGRES_HISTORY: history } = config;
    await checkMigrated(database, history);
    for (const check of [checkWorkers, checkQueueMinutes, checkRollUps]) await check(database);
    const limits = toRetentionLimits(config);
    if (limits !== undefined) await checkMayDelete(database);
    if (history !== "off") await checkMayMaintainPartitions(database);
    logger.info({ database: database.address }, "connected to PostgreSQL");
    this.#probe = new DatabaseProbe({ database, component, logger, silentMs: () => this.#silentMs() });
    this.#maintenance = startMaintenance({
      database,
      limits,
      historyDays: history === "off" ? undefined : config.POSTGRES_HISTORY_DAYS,
      statisticsDays: { all: config.POSTGRES_STATISTICS_DAYS, minutes: config.POSTGRES_STATISTICS_MINUTE_DAYS },
      workerExpiryDays: config.POSTGRES_WORKER_EXPIRY_DAYS,
      logger,
      metrics,
    });
  }

  /** One statement for the tasks of a batch, and one for its workers. Each is stored as a whole or not at all. */
  async export(events: readonly CeleryEvent[], signal: AbortSignal, batch?: ExportedBatch): Promise<void> {
    await this.#run(signal, async (database) => {
      await upsertTasks(database, events, this.#context.config.POSTGRES_HISTORY);
      await mergeWorkerEvents(database, events, batch?.receivedAt);
    });
  }

  async observe(observations: readonly Observation[], signal: AbortSignal): Promise<void> {
    await this.#run(signal, async (database) => {
      await mergeObservedWorkers(
        database,
        observations.filter((observation) => observation.type === "workers-observed"),
      );
      await mergeQueueMinutes(
        database,
        observations.filter((observation) => observation.type === "queues-observed"),
      );
      await mergeListened(
        database,
        observations.filter((observation) => observation.type === "listened"),
      );
    });
  }

  async forget(ids: readonly string[], signal: AbortSignal): Promise<number> {
    return this.#run(signal, (database) => deleteTasks(database, ids, this.#context.config.POSTGRES_HISTORY));
  }

  async stop(): Promise<void> {
    await Promise.all([this.#probe?.stop(), this.#maintenance?.stop()]);
    await this.#database?.close();
  }

  async #run<T>(signal: AbortSignal, work: (database: Database) => Promise<T>): Promise<T> {
    if (this.#database === undefined) throw new Error("the postgres exporter has not been started");
    signal.throwIfAborted();
    if (this.#running++ === 0) this.#answeredAt = performance.now();
    try {
      const result = await abortable(work(this.#database), signal);
      this.#probe?.answered();
      return result;
    } catch (thrown) {
      throw thrown instanceof RefusedDataError ? new PermanentError(thrown.message) : thrown;
    } finally {
      this.#running--;
      this.#answeredAt = performance.now();
    }
  }

  #silentMs(): number | undefined {
    return this.#running === 0 ? undefined : performance.now() - this.#answeredAt;
  }
}
