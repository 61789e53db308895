/** Collects events into batches, because a queue's job costs far less per event if it contains hundreds of them, and stores each batch. */
import type { RawMessage } from "@celery-metrics-exporter/broker";
import type { CeleryEvent, Rejected } from "@celery-metrics-exporter/celery";
import {
  admitAll,
  letterOf,
  lettersOfFuture,
  type Admitted,
  type BatchFilter,
  type DeadLetters,
  type Fanout,
} from "@celery-metrics-exporter/pipeline";
import { Outage, UnavailableError, retry, type ComponentHealth, type Logger } from "@celery-metrics-exporter/runtime";
import type { ReceiverMetrics } from "./receiver-metrics.ts";

/** Messages that are acknowledged together. The events of one message always stay in one batch. */
export interface Batch {
  readonly messages: RawMessage[];
  readonly events: CeleryEvent[];
  readonly rejected: Rejected[];
  /** Events from the future, of every type: they are accepted or rejected per batch. */
  readonly future: CeleryEvent[];
  /** Total size of its messages as received from the broker. */
  bytes: number;
  /** Seconds since the epoch, by `BatcherOptions.now`. */
  readonly closedAt: number;
}

/** The decoded content of a message. */
export type Content = Readonly<Record<"events" | "future", readonly CeleryEvent[]>> & { readonly rejected: readonly Rejected[] };

export interface BatcherOptions {
  readonly maxEvents: number;
  /** Must be less than the broker's prefetch. Otherwise a batch waits for messages that arrive only after its own are acknowledged. */
  readonly maxMessages: number;
  /** Age of the oldest message in it. */
  readonly maxMs: number;
  /** Size of the messages as received from the broker. */
  readonly maxBytes: number;
  /** Seconds since the epoch. */
  readonly now: () => number;
  /** Receives each batch once. Must not throw. */
  readonly onBatch: (batch: Batch) => void;
}

/** A batch exceeds a bound only if a single message does. */
export class Batcher {
  readonly #options: BatcherOptions;
  #open = emptyBatch();
  #items = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: BatcherOptions) {
    this.#options = options;
  }

  /** A message without events or rejects waits in a batch too, so that it is acknowledged in order. */
  add(message: RawMessage, { events, rejected, future }: Content): void {
    const { maxEvents, maxMessages, maxMs, maxBytes } = this.#options;
    const items = Math.max(1, events.length + rejected.length + future.length);
    if (this.#items + items > maxEvents || this.#open.bytes + message.bytes > maxBytes) this.flush();
    this.#open.messages.push(message);
    for (const event of events) this.#open.events.push(event);
    for (const reject of rejected) this.#open.rejected.push(reject);
    for (const event of future) this.#open.future.push(event);
    this.#items += items;
    this.#open.bytes += message.bytes;
    if (this.#items >= maxEvents || this.#open.messages.length >= maxMessages || this.#open.bytes >= maxBytes) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), maxMs);
  }

  /** Closes the open batch, if it contains anything. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#items === 0) return;
    const batch = { ...this.#open, closedAt: this.#options.now() };
    this.#open = emptyBatch();
    this.#items = 0;
    this.#options.onBatch(batch);
  }
}

function emptyBatch(): Omit<Batch, "closedAt"> {
  return { messages: [], events: [], rejected: [], future: [], bytes: 0 };
}

// Stores one batch: its events in the exporter queues, its rejects in the dead-letter queue.

export interface DeliveryOptions {
  /** The broker's name, stored with each batch. */
  readonly broker: string;
  readonly fanout: Fanout;
  /** Undefined if no filter is set. */
  readonly filter: BatchFilter | undefined;
  readonly deadLetters: DeadLetters;
  readonly metrics: ReceiverMetrics;
  /** Whether batches can be stored at the moment. */
  readonly health: ComponentHealth;
  readonly logger: Logger;
}

/** Well under the grace that exporters give late events, so that batches stored after an outage are not late. */
const BACKOFF = { firstMs: 100, maxMs: 250 };

export class Delivery {
  readonly #options: DeliveryOptions;
  readonly #outage: Outage;

  constructor(options: DeliveryOptions) {
    this.#options = options;
    this.#outage = new Outage({
      component: options.health,
      logger: options.logger,
      began: "batches cannot be stored; they are kept and retried",
      ended: "batches are stored again",
    });
  }

  /**
   * Retries each step until it succeeds, however long Redis is away. Returns true when the batch is safe; false if `signal` was aborted first,
   * because the broker still has the messages.
   */
  async deliver(batch: Batch, signal: AbortSignal): Promise<boolean> {
    for (const step of this.#steps(batch)) {
      const decide = (error: Error): false | undefined => {
        this.#failed(error);
        return signal.aborted ? false : undefined;
      };
      const isDone = await retry(
        async () => {
          await step();
          return true;
        },
        { ...BACKOFF, signal, decide },
      );
      if (!isDone) return false;
      this.#outage.served();
    }
    return true;
  }

  #steps({ events, rejected, future, closedAt }: Batch): (() => Promise<void>)[] {
    const { broker, fanout, filter, deadLetters, metrics } = this.#options;
    let admitted: Admitted | undefined;
    const enqueue = async (): Promise<void> => {
      // Redis is asked only once, however often storing is retried.
      admitted ??= filter === undefined ? admitAll(events) : await filter.admit(events);
      await fanout.enqueue({ broker, receivedAt: closedAt, ...admitted });
      metrics.enqueued(events.length, admitted.events.length);
    };
    const bury = async (): Promise<void> => {
      await deadLetters.add([...rejected.map(letterOf), ...lettersOfFuture(future)]);
    };
    return [...(events.length > 0 ? [enqueue] : []), ...(rejected.length + future.length > 0 ? [bury] : [])];
  }

  #failed(error: Error): void {
    this.#options.metrics.retried();
    this.#outage.failed({ reason: error.message, ...(!(error instanceof UnavailableError) && { err: error }) });
  }
}
