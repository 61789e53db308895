/** Reports now and then what the single process has done, and at its end. */
import { connectDatabase, isEmbedded, type Database } from "@celery-metrics-exporter/db";
import { defineRole, duration, pause, toError, type Logger, type Metrics, type Role } from "@celery-metrics-exporter/runtime";
import { z } from "zod";
import { readMetric, readValues } from "../own-metrics.ts";
import { countRows } from "./count-rows.ts";
import { isNews, renderEnd, renderSummary, toFields, type Summary } from "./summary.ts";

export const SummaryConfig = z.object({
  SUMMARY_SECONDS: duration("wait seconds", 10, { min: 0, max: 86_400 }).describe(
    "How often `start` logs what it has done so far, in seconds, unless nothing has changed; 0 never does. By default on a terminal only.",
  ),
});

export interface SummaryOptions {
  /** Where the rows are; undefined without the postgres exporter. */
  readonly databaseUrl: string | undefined;
  /** A sentence instead of fields. */
  readonly forPeople: boolean;
  /** Gets the last line, when everything else has stopped. */
  readonly onEnd: (line: string) => void;
}

const DATABASE_TIMEOUT_MS = 2_000;

/** To be started first, so that it ends last. */
export function summaryRole(options: SummaryOptions): Role<typeof SummaryConfig> {
  return defineRole({
    name: "summary",
    Config: SummaryConfig,
    async start({ config, logger, metrics, lifecycle }) {
      const reporter = new Reporter(options, metrics, logger);
      lifecycle.defer("summary", () => reporter.stop());
      await reporter.start(config.SUMMARY_SECONDS);
    },
  });
}

class Reporter {
  readonly #options: SummaryOptions;
  readonly #metrics: Metrics;
  readonly #logger: Logger;
  readonly #startedAt = performance.now();
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #database: Database | undefined;
  #before: Summary | undefined;
  #looked = { at: performance.now(), events: 0 };

  constructor(options: SummaryOptions, metrics: Metrics, logger: Logger) {
    this.#options = options;
    this.#metrics = metrics;
    this.#logger = logger;
  }

  /** @throws {UnavailableError} when another process uses the embedded database. */
  async start(intervalSeconds: number): Promise<void> {
    const { databaseUrl } = this.#options;
    // Opened before the exporter's, and closed after it: the last to close it would have to open it anew for the last line.
    if (databaseUrl !== undefined && isEmbedded(databaseUrl)) this.#database = await connectDatabase({ url: databaseUrl });
    this.#running = this.#run(intervalSeconds);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    const summary = await this.#look(this.#database);
    await this.#database?.close();
    this.#options.onEnd(renderEnd(summary, (performance.now() - this.#startedAt) / 1_000));
  }

  async #run(intervalSeconds: number): Promise<void> {
    const { signal } = this.#stopping;
    for (await pause(intervalSeconds * 1_000, signal); !signal.aborted; await pause(intervalSeconds * 1_000, signal)) {
      const summary = await this.#look(await this.#connected());
      if (signal.aborted || !isNews(summary, this.#before, intervalSeconds)) continue;
      if (this.#options.forPeople) this.#logger.info(renderSummary(summary));
      else this.#logger.info(toFields(summary), "summary");
      this.#before = summary;
    }
  }

  async #look(database: Database | undefined): Promise<Summary> {
    const received = (await readValues(this.#metrics, "events_received_total")) ?? [];
    const lags = (await readValues(this.#metrics, "queue_lag_seconds")) ?? [];
    const sent = await readValues(this.#metrics, "datadog_completions_sent_total");
    const events = received.reduce((sum, { value }) => sum + value, 0);
    const before = this.#looked;
    this.#looked = { at: performance.now(), events };
    return {
      events,
      taskEvents: received.reduce((sum, { value, labels }) => (String(labels["type"]).startsWith("task-") ? sum + value : sum), 0),
      eventsPerSecond: ((events - before.events) * 1_000) / Math.max(1, this.#looked.at - before.at),
      rejected: (await readMetric(this.#metrics, "events_rejected_total")) ?? 0,
      lagSeconds: Math.max(0, ...lags.map(({ value }) => value)),
      rows: database === undefined ? undefined : await this.#rows(database),
      sent: sent && new Map(sent.map(({ value, labels }) => [String(labels["state"]).toUpperCase(), value])),
    };
  }

  /** Undefined while it does not answer: the postgres exporter's log says why. */
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
