/** What the stages of one exporter share. */
import type { DeadLetters } from "../dead-letter/dead-letters.ts";
import type { DeliveryRules } from "../deliver/deliver.ts";
import type { Exporter } from "../contract/exporter.ts";
import type { Holding } from "../hold/holding.ts";
import type { HostFilter } from "../filter/host-filter.ts";
import { type Metrics, integer } from "@celery-metrics-exporter/runtime";
import { z } from "zod";

export interface Host {
  readonly name: string;
  readonly exporter: Exporter;
  readonly filter: HostFilter;
  readonly deadLetters: DeadLetters;
  readonly metrics: HostMetrics;
  readonly rules: DeliveryRules;
  readonly holding: Holding;
}

/** The settings of a host, the same for every exporter. */
export const HostConfig = z.object({
  PROCESSOR_CONCURRENCY: integer(4, 1, 1_000).describe("Batches that one process exports at the same time."),
  PROCESSOR_MAX_TRIES: integer(5, 1).describe(
    "How often a batch is tried if the error is neither a refusal of the data nor an outage. After that, the batch is split to find the event at fault. That event is tried as often, and then becomes a dead letter. Outages are retried forever.",
  ),
});
export type HostConfig = z.output<typeof HostConfig>;

const DURATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** A host's own metrics, labelled by exporter, because several hosts may share a process. */
export class HostMetrics {
  readonly #exporter: string;
  readonly #exported;
  readonly #duration;
  readonly #retries;
  readonly #splits;
  readonly #stalled;
  readonly #forgotten;
  readonly #droppedObservations;

  /** @param queues the names of the exporter's queues. */
  constructor(name: string, queues: readonly string[], metrics: Metrics) {
    this.#exporter = name;
    const exporter = [name];
    this.#exported = metrics.counter("events_exported_total", "Events that an exporter took.", { exporter });
    this.#duration = metrics.histogram("export_duration_seconds", "Time of one try to export or process a batch.", DURATION_BUCKETS, [
      "exporter",
      "stage",
    ]);
    this.#retries = metrics.counter("export_retries_total", "Tries that failed and are repeated, by reason: unavailable or error.", {
      exporter,
      reason: ["unavailable", "error"],
    });
    this.#splits = metrics.counter("batches_split_total", "Batches split to find the event that is refused or slow.", { exporter });
    this.#stalled = metrics.counter("jobs_stalled_total", "Jobs taken over from a process that was killed or lost Redis.", {
      queue: queues,
    });
    this.#forgotten = metrics.counter("tasks_forgotten_total", "Tasks removed from an exporter's sink because a filter excludes them.", {
      exporter,
    });
    this.#droppedObservations = metrics.counter("observations_dropped_total", "Observations that an exporter did not take.", { exporter });
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

  droppedObservations(observations: number): void {
    this.#droppedObservations.inc({ exporter: this.#exporter }, observations);
  }

  /** Runs one try of a stage and measures it, however it ends. */
  async time<T>(stage: "export" | "process" | "forget" | "observe", attempt: () => Promise<T>): Promise<T> {
    const stop = this.#duration.startTimer({ exporter: this.#exporter, stage });
    try {
      return await attempt();
    } finally {
      stop();
    }
  }
}
