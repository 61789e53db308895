/** What the exporter tells of its own work. */
import type { Metrics } from "@celery-metrics-exporter/runtime";
import type { Lack } from "@celery-metrics-exporter/task-store";
import type { TaskMetrics } from "./metrics.ts";

/** Why tasks are put off: what they lack, or that another job holds them. */
export type PutOffReason = Lack | "busy";

export class ExporterMetrics {
  readonly #completions;
  readonly #waits;
  readonly #skewed;
  readonly #putOff;
  readonly #incomplete;
  readonly #expired;

  constructor(metrics: Metrics) {
    this.#completions = metrics.counter("datadog_completions_sent_total", "Runs of tasks sent, by final state.", ["state"]);
    this.#waits = metrics.counter("datadog_waits_sent_total", "Waits of attempts sent, by the event they are counted from.", ["basis"]);
    this.#skewed = metrics.counter("datadog_negative_waits_total", "Waits sent as 0 because the clocks of client and worker differ.");
    this.#putOff = metrics.counter("datadog_tasks_put_off_total", "Times a task was put off, by what it lacks.", ["reason"]);
    this.#incomplete = metrics.counter("datadog_tasks_incomplete_total", "Tasks sent although something was still missing.", ["reason"]);
    this.#expired = metrics.counter("datadog_completions_expired_total", "Runs not sent because they ended too long ago.");
  }

  sent({ completions, waits }: TaskMetrics): void {
    for (const { state } of completions) this.#completions.inc({ state: state.toLowerCase() });
    for (const { basis, skewed } of waits) {
      this.#waits.inc({ basis });
      if (skewed) this.#skewed.inc();
    }
  }

  putOff(reason: PutOffReason): void {
    this.#putOff.inc({ reason });
  }

  incomplete(reason: Lack): void {
    this.#incomplete.inc({ reason });
  }

  expired(completions: number): void {
    this.#expired.inc(completions);
  }
}
