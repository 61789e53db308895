/** The host's own metrics, labelled by exporter: several hosts may share a process. */
import type { Metrics } from "@celery-metrics-exporter/runtime";

const DURATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export class HostMetrics {
  readonly #exporter: string;
  readonly #exported;
  readonly #duration;
  readonly #retries;
  readonly #splits;
  readonly #stalled;
  readonly #forgotten;

  constructor(exporter: string, metrics: Metrics) {
    this.#exporter = exporter;
    this.#exported = metrics.counter("events_exported_total", "Events that an exporter took.", ["exporter"]);
    this.#duration = metrics.histogram("export_duration_seconds", "Time of one try to export or process a batch.", DURATION_BUCKETS, [
      "exporter",
      "stage",
    ]);
    this.#retries = metrics.counter("export_retries_total", "Tries that failed and are repeated, by reason: unavailable or error.", [
      "exporter",
      "reason",
    ]);
    this.#splits = metrics.counter("batches_split_total", "Batches split to find the event that is refused or slow.", ["exporter"]);
    this.#stalled = metrics.counter("jobs_stalled_total", "Jobs taken over from a process that was killed or lost Redis.", ["queue"]);
    this.#forgotten = metrics.counter("tasks_forgotten_total", "Tasks removed from an exporter's sink because a filter excludes them.", [
      "exporter",
    ]);
  }

  exported(events: number): void {
    this.#exported.inc({ exporter: this.#exporter }, events);
  }

  retried(reason: "unavailable" | "error"): void {
    this.#retries.inc({ exporter: this.#exporter, reason });
  }

  split(): void {
    this.#splits.inc({ exporter: this.#exporter });
  }

  stalled(queue: string): void {
    this.#stalled.inc({ queue });
  }

  forgot(tasks: number): void {
    this.#forgotten.inc({ exporter: this.#exporter }, tasks);
  }

  /** Runs one try of a stage and measures it, however it ends. */
  async time<T>(stage: "export" | "process" | "forget", attempt: () => Promise<T>): Promise<T> {
    const stop = this.#duration.startTimer({ exporter: this.#exporter, stage });
    try {
      return await attempt();
    } finally {
      stop();
    }
  }
}
