/** Reports at intervals, and at the end, what the single process has done. */
import { connectDatabase, isEmbedded, type Database } from "@celery-metrics-exporter/db";
import { defineRole, duration, pause, toError, type Health, type Logger, type Metrics, type Role } from "@celery-metrics-exporter/runtime";
import { z } from "zod";
import { readMetric, readValues } from "./own-metrics.ts";
import { countRows } from "./count-rows.ts";
import { isNews, renderEarlyEnd, renderEnd, renderSummary, toFields, type Summary } from "./summary.ts";

export const SummaryConfig = z.object({
  SUMMARY_SECONDS: duration("wait seconds", 10, { min: 0, max: 86_400 }).describe(
    "How often `start` logs what it has done so far, in seconds. Nothing is logged if nothing has changed; 0 turns the summary off. By default it appears only on a terminal.",
  ),
});

export interface SummaryOptions {
  /** Where the rows are; undefined without the postgres exporter. */
  readonly databaseUrl: string | undefined;
  /** A sentence instead of fields. */
  readonly inWords: boolean;
  /** Whether every role has started. */
  readonly hasStarted: () => boolean;
  /** Receives the last line, after everything else has stopped. */
  readonly onEnd: (line: string) => void;
  /** Interval for tests, which do not wait. */
  readonly wait?: typeof pause;
}

const DATABASE_TIMEOUT_MS = 2_000;
const ASK_READY_EVERY_MS = 200;

const NOTHING: SummaryOptions = { databaseUrl: undefined, inWords: false, hasStarted: () => false, onEnd: () => {} };

/** Start it first, so that it stops last. Without options it only describes its settings. */
export function summaryRole(options: SummaryOptions = NOTHING): Role<typeof SummaryConfig> {
  return defineRole({
    name: "summary",
    isInternal: true,
    Config: SummaryConfig,
    async start({ config, logger, metrics, health, lifecycle }) {
      const reporter = new Reporter(options, { metrics, health, logger });
      lifecycle.defer("summary", () => reporter.stop());
      await reporter.start(config.SUMMARY_SECONDS);
    },
  });
}

interface Observed {
  readonly metrics: Metrics;
  readonly health: Health;
  readonly logger: Logger;
}

class Reporter {
  readonly #options: SummaryOptions;
  readonly #metrics: Metrics;
  readonly #health: Health;
  readonly #logger: Logger;
  readonly #startedAt = performance.now();
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  readonly #wait: typeof pause;
  #database: Database | undefined;
  #before: Summary | undefined;
  #looked = { at: performance.now(), taskEvents: 0 };
  /** What it is waiting for, or waited for last; empty once everything was ready. */
  #waitsFor: Readonly<Record<string, string>> = {};
  #wasReady = false;

  constructor(options: SummaryOptions, { metrics, health, logger }: Observed) {
    this.#options = options;
    this.#wait = options.wait ?? pause;
    this.#metrics = metrics;
    this.#health = health;
    this.#logger = logger;
  }

  /** @throws {UnavailableError} if another process uses the embedded database. */
  async start(intervalSeconds: number): Promise<void> {
    const { databaseUrl } = this.#options;
    // Opened before the exporter opens it and closed afterwards. Otherwise the last line would have to open the database again.
    if (databaseUrl !== undefined && isEmbedded(databaseUrl)) this.#database = await connectDatabase({ url: databaseUrl });
    this.#running = this.#run(intervalSeconds);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    const summary = await this.#look(this.#database);
    await this.#database?.close();
    const elapsedSeconds = (performance.now() - this.#startedAt) / 1_000;
    const hadAny = this.#wasReady || summary.events > 0;
    this.#options.onEnd(hadAny ? renderEnd(summary, elapsedSeconds) : renderEarlyEnd(this.#waitsFor, elapsedSeconds));
  }

  async #run(intervalSeconds: number): Promise<void> {
    const { signal } = this.#stopping;
    await this.#untilReady(signal);
    if (intervalSeconds === 0) return;
    for (await this.#wait(intervalSeconds * 1_000, signal); !signal.aborted; await this.#wait(intervalSeconds * 1_000, signal)) {
      const summary = await this.#look(await this.#connected());
      if (signal.aborted || !isNews(summary, this.#before, intervalSeconds)) continue;
      if (this.#options.inWords) this.#logger.info(renderSummary(summary));
      else this.#logger.info(toFields(summary), "summary");
      this.#before = summary;
    }
  }

  /** Resolves when every role is ready, or when events arrive anyway, for example without an agent. Before that, zeros would look as if everything worked. */
  async #untilReady(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#wasReady = this.#options.hasStarted() && (this.#health.report().ready || (await this.#hasEvents()));
      if (this.#wasReady) return;
      this.#waitsFor = this.#health.whatIsDown();
      await this.#wait(ASK_READY_EVERY_MS, signal);
    }
  }

  async #hasEvents(): Promise<boolean> {
    return ((await readMetric(this.#metrics, "events_received_total")) ?? 0) > 0;
  }

  async #look(database: Database | undefined): Promise<Summary> {
    const received = (await readValues(this.#metrics, "events_received_total")) ?? [];
    const lags = (await readValues(this.#metrics, "queue_lag_seconds")) ?? [];
    const sent = await readValues(this.#metrics, "datadog_completions_sent_total");
    const undelivered = (await readValues(this.#metrics, "queue_undelivered_tasks")) ?? [];
    const ofTasks = received.filter(({ labels }) => String(labels["type"]).startsWith("task-"));
    const taskEvents = ofTasks.reduce((sum, { value }) => sum + value, 0);
    const longest = lags.reduce((one, other) => (other.value > one.value ? other : one), { value: 0, labels: {} });
    const before = this.#looked;
    this.#looked = { at: performance.now(), taskEvents };
    return {
      events: received.reduce((sum, { value }) => sum + value, 0),
      taskEvents,
      taskEventsPerSecond: ((taskEvents - before.taskEvents) * 1_000) / Math.max(1, this.#looked.at - before.at),
      rejected: (await readMetric(this.#metrics, "events_rejected_total")) ?? 0,
      lagSeconds: longest.value,
      lagQueue: longest.value > 0 ? String(longest.labels["queue"]) : undefined,
      unsent: sent && undelivered.filter(({ labels }) => labels["exporter"] === "datadog").reduce((sum, { value }) => sum + value, 0),
      rows: database === undefined ? undefined : await this.#rows(database),
      sent: sent && new Map(sent.map(({ value, labels }) => [String(labels["state"]).toUpperCase(), value])),
    };
  }

  /** Undefined if the database does not answer: the postgres exporter logs why. */
  async #connected(): Promise<Database | undefined> {
    const { databaseUrl: url } = this.#options;
    if (url === undefined) return undefined;
    const timeouts = { startupTimeoutMs: DATABASE_TIMEOUT_MS, statementTimeoutMs: DATABASE_TIMEOUT_MS };
    try {
      return (this.#database ??= await connectDatabase({
        url,
        poolSize: 1,
        ...timeouts,
        applicationName: "celery-metrics-exporter start",
      }));
    } catch (thrown) {
      this.#logger.debug({ err: toError(thrown) }, "cannot count the rows");
      return undefined;
    }
  }

  async #rows(database: Database): Promise<Summary["rows"]> {
    try {
      return (await countRows(database)) ?? "many";
    } catch (thrown) {
      this.#logger.debug({ err: toError(thrown) }, "cannot count the rows");
      return undefined;
    }
  }
}
