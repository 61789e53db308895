/** The receiver's own metrics. */
import type { Broker } from "@celery-metrics-exporter/broker";
import { REJECT_REASONS, TASK_EVENT_TYPES, type CeleryEvent, type Rejected } from "@celery-metrics-exporter/celery";
import { FUTURE } from "@celery-metrics-exporter/pipeline";
import type { Metrics } from "@celery-metrics-exporter/runtime";
import type { Sorted } from "./clocks.ts";

/** Custom events can have any type: they share a label, so that the number of series is bounded. */
const OTHER = "other";
const LABELS = [...TASK_EVENT_TYPES, "worker-online", "worker-heartbeat", "worker-offline", OTHER];

export class ReceiverMetrics {
  readonly #broker: Broker;
  readonly #now: () => number;
  readonly #messages;
  readonly #events;
  readonly #rejected;
  readonly #filtered;
  readonly #batches;
  readonly #retries;
  readonly #lag;
  /** Counts collected between two calls of `flush`: incrementing a counter with labels is expensive compared with the other work per event. */
  #messageCount = 0;
  readonly #eventCounts = new Map<string, number>(LABELS.map((label) => [label, 0]));
  #notTaken = 0;
  #newest = 0;
  #eventsTaken = 0;

  /** @param now Unix time in seconds. */
  constructor(metrics: Metrics, broker: Broker, now: () => number = () => Date.now() / 1_000) {
    this.#broker = broker;
    this.#now = now;
    this.#messages = metrics.counter("messages_received_total", "Messages received from the broker.", { broker: [broker] });
    this.#events = metrics.counter("events_received_total", "Events decoded, by type.", { broker: [broker], type: LABELS });
    this.#rejected = metrics.counter(
      "events_rejected_total",
      "Messages and events that could not be read or are from the future, by reason.",
      { reason: [...REJECT_REASONS, FUTURE] },
    );
    this.#filtered = metrics.counter(
      "events_filtered_total",
      "Events not passed on, by reason: no exporter takes the type, or a filter dropped them.",
      { reason: ["not_taken", "filter"] },
    );
    this.#batches = metrics.counter("batches_enqueued_total", "Batches stored in the exporter queues.");
    this.#retries = metrics.counter("enqueue_retries_total", "Times that storing a batch failed and was retried.");
    this.#lag = metrics.gauge("receiver_lag_seconds", "Age of the newest event of the last batch when it was closed.", ["broker"]);
  }

  /** Events decoded since the start. */
  get eventsTaken(): number {
    return this.#eventsTaken;
  }

  /** Counts a message. Events from the future do not affect the lag. */
  received({ inTime, future, rejected }: Sorted & { readonly rejected: readonly Rejected[] }): void {
    this.#messageCount += 1;
    this.#eventsTaken += inTime.length + future.length;
    for (const event of inTime) {
      this.#count(event);
      if (event.timestamp > this.#newest) this.#newest = event.timestamp;
    }
    for (const event of future) this.#count(event);
    for (const { reason, count } of rejected) this.#rejected.inc({ reason }, count);
  }

  refusedFuture(count: number): void {
    this.#rejected.inc({ reason: FUTURE }, count);
  }

  #count({ type }: CeleryEvent): void {
    const count = this.#eventCounts.get(type);
    if (count === undefined) this.#eventCounts.set(OTHER, (this.#eventCounts.get(OTHER) ?? 0) + 1);
    else this.#eventCounts.set(type, count + 1);
  }

  notTaken(count: number): void {
    this.#notTaken += count;
  }

  enqueued(batched: number, passedOn: number): void {
    this.#batches.inc();
    if (batched > passedOn) this.#filtered.inc({ reason: "filter" }, batched - passedOn);
  }

  retried(): void {
    this.#retries.inc();
  }

  /** Adds what was collected to the counters; called when a batch closes. */
  flush(): void {
    const broker = this.#broker;
    this.#messages.inc({ broker }, this.#messageCount);
    this.#messageCount = 0;
    for (const [type, count] of this.#eventCounts) {
      if (count === 0) continue;
      this.#events.inc({ broker, type }, count);
      this.#eventCounts.set(type, 0);
    }
    if (this.#notTaken > 0) this.#filtered.inc({ reason: "not_taken" }, this.#notTaken);
    this.#notTaken = 0;
    if (this.#newest > 0) this.#lag.set({ broker }, Math.max(0, this.#now() - this.#newest));
    this.#newest = 0;
  }
}
