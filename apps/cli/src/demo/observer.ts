/** Looks at the running demo from all sides. */
import type { RunningRoles } from "@celery-metrics-exporter/runtime";
import type { DemoSettings } from "./demo-environment.ts";
import { readMetric } from "./own-metrics.ts";
import type { Snapshot } from "./snapshot.ts";
import type { StatsdSink } from "./statsd-sink.ts";
import type { TasksInPostgres } from "./tasks-in-postgres.ts";
import type { Workload } from "./workload.ts";

export interface Observed {
  readonly running: RunningRoles;
  readonly workload: Workload;
  readonly table: TasksInPostgres | undefined;
  readonly sink: StatsdSink | undefined;
  readonly settings: DemoSettings;
  readonly exporterNames: readonly string[];
  readonly totalSeconds: number | undefined;
  readonly logFile: string;
}

export class Observer {
  phase: Snapshot["phase"] = "running";
  readonly #observed: Observed;
  readonly #startedAt = performance.now();
  #before = { seconds: 0, events: 0 };

  constructor(observed: Observed) {
    this.#observed = observed;
  }

  async snapshot(): Promise<Snapshot> {
    const { running, workload, table, sink, settings, exporterNames, totalSeconds, logFile } = this.#observed;
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
      lagSeconds: await readMetric(running.metrics, "receiver_lag_seconds"),
      states: await table?.byState(),
      database: settings.database,
      statsd: sink,
      metricsGoTo: exporterNames.includes("datadog")
        ? sink === undefined
          ? "your agent"
          : "a port of this demo's, with no agent behind"
        : undefined,
      dashboardUrl: settings.dashboardUrl,
      healthUrl: running.healthUrl,
      logFile,
    };
  }
}
