/** Sends finished tasks: converts summaries into metrics and sends these over DogStatsD. */
import type { FinishedTaskSink, Reported, Summary } from "@celery-metrics-exporter/task-store";
import type { StatsdClient } from "./agent/statsd-client.ts";
import type { ExporterMetrics } from "./exporter-metrics.ts";
import type { TaskMetrics, TaskMetricsMapper, Series } from "./metrics/metrics.ts";

export interface DatadogSinkOptions {
  readonly statsd: StatsdClient;
  readonly mapper: TaskMetricsMapper;
  readonly metrics: ExporterMetrics;
  /** 0 means no limit. */
  readonly maxAgeSeconds: number;
}

/** Tasks that are sent together. */
interface Part {
  readonly tasks: readonly Summary[];
  /** Without those that are too old. */
  readonly metrics: readonly TaskMetrics[];
  readonly series: readonly Series[];
}

export class DatadogSink implements FinishedTaskSink {
  readonly #options: DatadogSinkOptions;
  /** Estimate of how many tasks fit one send, from what fitted before. */
  #most = Number.POSITIVE_INFINITY;

  constructor(options: DatadogSinkOptions) {
    this.#options = options;
  }

  async send(tasks: readonly Summary[], signal: AbortSignal): Promise<Reported> {
    const part = this.#firstPart(tasks);
    await this.#options.statsd.send(part.series, signal);
    return { tasks: part.tasks.length, settled: () => this.#count(part) };
  }

  #firstPart(tasks: readonly Summary[]): Part {
    const { mapper, statsd } = this.#options;
    for (let count = Math.min(tasks.length, this.#most); ; count = Math.ceil(count / 2)) {
      const some = tasks.slice(0, count);
      const metrics = some.map((summary) => this.#recent(summary));
      const series = mapper.seriesOf(metrics);
      if (count > 1 && !statsd.fitsOneSending(series)) continue;
      this.#most = count < tasks.length ? count * 2 : Math.max(this.#most, count * 2);
      return { tasks: some, metrics, series };
    }
  }

  /** Drops completions and retries that are too old, and old waits of a task that has not ended: Datadog would show them at the current time. */
  #recent(summary: Summary): TaskMetrics {
    const { maxAgeSeconds } = this.#options;
    if (maxAgeSeconds === 0) return summary;
    const oldest = Date.now() / 1_000 - maxAgeSeconds;
    const retries = summary.retries.filter(({ retriedAt }) => retriedAt >= oldest);
    if (summary.completions.length === 0)
      return { completions: [], waits: summary.waits.filter(({ startedAt }) => startedAt >= oldest), retries };
    const completions = summary.completions.filter(({ finishedAt }) => finishedAt >= oldest);
    return { completions, waits: completions.length === 0 ? [] : summary.waits, retries };
  }

  #count({ tasks, metrics: sent }: Part): void {
    const { metrics } = this.#options;
    metrics.sent(sent);
    metrics.expired(completionsIn(tasks) - completionsIn(sent));
  }
}

function completionsIn(tasks: readonly TaskMetrics[]): number {
  return tasks.reduce((sum, { completions }) => sum + completions.length, 0);
}
