/** Collects the state of the running demo from all sides. */
import { toError, type Logger, type RunningRoles } from "@celery-metrics-exporter/runtime";
import { readMetric } from "cli";
import type { DemoSettings } from "./environment.ts";
import type { CountedMetrics, TasksInPostgres } from "./sides.ts";
import type { Workload } from "./workload.ts";

/** The state of the demo at one moment. */
export interface Snapshot {
  readonly elapsedSeconds: number;
  /** When it stops by itself. */
  readonly totalSeconds: number | undefined;
  readonly phase: "running" | "draining";
  readonly workload: string;
  readonly tasksSent: number;
  readonly eventsReceived: number;
  readonly eventsPerSecond: number;
  /** Age of the last processed events; undefined before the first. */
  readonly lagSeconds: number | undefined;
  /** Tasks in Postgres by state; undefined without the postgres exporter. */
  readonly states: ReadonlyMap<string, number> | undefined;
  /** Describes the place of the rows. */
  readonly database: string;
  /** What the sink received; undefined if metrics go to the user's agent, or without the datadog exporter. */
  readonly statsd: { readonly samples: number; readonly datagrams: number; readonly recentLines: readonly string[] } | undefined;
  readonly metricsGoTo: string | undefined;
  /** What Prometheus can scrape; undefined without the prometheus exporter. */
  readonly scrapedUrl: string | undefined;
  readonly dashboardUrl: string | undefined;
  readonly webUrl: string | undefined;
  readonly healthUrl: string;
  readonly logFile: string;
}

export interface Observed {
  readonly running: RunningRoles;
  readonly workload: Workload;
  readonly table: TasksInPostgres | undefined;
  readonly sink: CountedMetrics | undefined;
  readonly settings: DemoSettings;
  readonly exporterNames: readonly string[];
  readonly totalSeconds: number | undefined;
  /** Undefined without the prometheus exporter. */
  readonly scrapedUrl: string | undefined;
  /** Undefined without the dashboard. */
  readonly dashboardUrl: string | undefined;
  /** The web page. Undefined without it. */
  readonly webUrl: string | undefined;
  readonly logFile: string;
  readonly logger: Logger;
}

export class Observer {
  phase: Snapshot["phase"] = "running";
  readonly #observed: Observed;
  readonly #startedAt = performance.now();
  #before = { seconds: 0, events: 0 };

  constructor(observed: Observed) {
    this.#observed = observed;
  }

  /** Undefined if a side does not answer at the moment; the log says why. */
  async snapshot(): Promise<Snapshot | undefined> {
    try {
      return await this.#look();
    } catch (thrown) {
      this.#observed.logger.warn({ err: toError(thrown) }, "cannot read the state of the demo");
      return undefined;
    }
  }

  async #look(): Promise<Snapshot> {
    const { running, workload, table, sink, settings, exporterNames, totalSeconds, scrapedUrl, dashboardUrl, webUrl, logFile } =
      this.#observed;
    const elapsedSeconds = (performance.now() - this.#startedAt) / 1000;
    const eventsReceived = (await readMetric(running.metrics, "events_received_total")) ?? 0;
    const eventsPerSecond = (eventsReceived - this.#before.events) / Math.max(0.001, elapsedSeconds - this.#before.seconds);
    this.#before = { seconds: elapsedSeconds, events: eventsReceived };
    return {
      elapsedSeconds,
      totalSeconds,
      phase: this.phase,
      workload: workload.description,
      tasksSent: workload.sent,
      eventsReceived,
      eventsPerSecond,
      lagSeconds: eventsReceived > 0 ? await readMetric(running.metrics, "receiver_lag_seconds") : undefined,
      states: await table?.byState(),
      database: settings.database,
      statsd: sink,
      metricsGoTo: exporterNames.includes("datadog") ? metricsGoTo(sink) : undefined,
      scrapedUrl,
      dashboardUrl,
      webUrl,
      healthUrl: running.healthUrl,
      logFile,
    };
  }
}

function metricsGoTo(sink: CountedMetrics | undefined): string {
  return sink === undefined ? "your agent" : `udp://127.0.0.1:${sink.port}, where the demo counts them`;
}
