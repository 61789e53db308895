/** Metrics about the exporter's own work. */
import type { Metrics } from "@celery-metrics-exporter/runtime";
import {
  BASES,
  DROP_REASONS,
  FINAL_STATES,
  MISSING,
  PUT_OFF_REASONS,
  type DropReason,
  type FinalState,
  type Missing,
  type OpenTasks,
  type PutOffReason,
  type Wait,
} from "@celery-metrics-exporter/task-store";
import type { TaskMetrics } from "./metrics/metrics.ts";

export class ExporterMetrics {
  readonly #completions;
  readonly #waits;
  readonly #skewed;
  readonly #retries;
  readonly #putOff;
  readonly #incomplete;
  readonly #expired;
  readonly #dropped;
  readonly #expiredTasks;
  readonly #openTasks;

  constructor(metrics: Metrics) {
    this.#completions = metrics.counter("datadog_completions_sent_total", "Runs of tasks sent, by final state.", {
      state: FINAL_STATES.map(labelOf),
    });
    this.#waits = metrics.counter("datadog_waits_sent_total", "Waits of attempts sent, by the event from which the wait is measured.", {
      basis: BASES,
    });
    this.#skewed = metrics.counter("datadog_negative_waits_total", "Waits sent as 0 because the clocks of client and worker differ.");
    this.#retries = metrics.counter("datadog_retries_sent_total", "Retries sent.");
    this.#putOff = metrics.counter("datadog_tasks_put_off_total", "Times a task was postponed, by what was missing or might still come.", {
      reason: PUT_OFF_REASONS,
    });
    this.#incomplete = metrics.counter("datadog_tasks_incomplete_total", "Tasks sent although something was still missing.", {
      reason: MISSING,
    });
    this.#expired = metrics.counter("datadog_completions_expired_total", "Runs not sent because they ended too long ago.");
    this.#dropped = metrics.counter("datadog_events_dropped_total", "Events dropped because their task has very many attempts.", {
      reason: DROP_REASONS,
    });
    this.#expiredTasks = metrics.counter("datadog_tasks_expired_total", "Tasks that expired in the Store before they ended and were sent.");
    this.#openTasks = metrics.gauge("datadog_tasks_open", "Tasks in the Store that are not sent yet, over all processes.");
  }

  sent(tasks: readonly TaskMetrics[]): void {
    const completions = new Tally<FinalState>();
    const waits = new Tally<Wait["basis"]>();
    let skewed = 0;
    let retries = 0;
    for (const task of tasks) {
      retries += task.retries.length;
      for (const { state } of task.completions) completions.add(state);
      for (const wait of task.waits) {
        waits.add(wait.basis);
        if (wait.skewed) skewed += 1;
      }
    }
    for (const [state, count] of completions.counts) this.#completions.inc({ state: labelOf(state) }, count);
    for (const [basis, count] of waits.counts) this.#waits.inc({ basis }, count);
    this.#skewed.inc(skewed);
    this.#retries.inc(retries);
  }

  putOff(reasons: readonly PutOffReason[]): void {
    for (const [reason, count] of tally(reasons).counts) this.#putOff.inc({ reason }, count);
  }

  incomplete(reasons: readonly Missing[]): void {
    for (const [reason, count] of tally(reasons).counts) this.#incomplete.inc({ reason }, count);
  }

  expired(completions: number): void {
    this.#expired.inc(completions);
  }

  swept({ expired, open }: OpenTasks): void {
    this.#expiredTasks.inc(expired);
    this.#openTasks.set(open);
  }

  dropped(reason: DropReason, events: number): void {
    this.#dropped.inc({ reason }, events);
  }
}

function labelOf(state: FinalState): string {
  return state.toLowerCase();
}

/** Counts how many there are of each kind first, because incrementing a counter with labels one by one is too slow. */
class Tally<K> {
  readonly counts = new Map<K, number>();

  add(kind: K): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
  }
}

function tally<K>(kinds: readonly K[]): Tally<K> {
  const all = new Tally<K>();
  for (const kind of kinds) all.add(kind);
  return all;
}
