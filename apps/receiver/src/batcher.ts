/** Collects the events of messages into batches: a queue's job is far cheaper per event when it carries hundreds of them. */
import type { RawMessage } from "@celery-metrics-exporter/broker";
import type { CeleryEvent, Rejected } from "@celery-metrics-exporter/celery";

/** Messages that are acknowledged together. The events of one message are never split over batches. */
export interface Batch {
  readonly messages: RawMessage[];
  readonly events: CeleryEvent[];
  readonly rejected: Rejected[];
  /** Events from the future, of every type: a batch decides for all of them whether they are taken. */
  readonly future: CeleryEvent[];
  /** Size of its messages, as they came from the broker. */
  bytes: number;
}

/** What a message holds. */
export type Content = Readonly<Record<"events" | "future", readonly CeleryEvent[]>> & { readonly rejected: readonly Rejected[] };

export interface BatcherOptions {
  readonly maxEvents: number;
  /** Fewer than the broker sends ahead, or a batch waits in vain for messages that come only when its own are acknowledged. */
  readonly maxMessages: number;
  /** Age of the oldest message in it. */
  readonly maxMs: number;
  /** As the messages came from the broker. */
  readonly maxBytes: number;
  /** Gets each batch once. Must not throw. */
  readonly onBatch: (batch: Batch) => void;
}

/** A batch is past a bound only when a single message is. */
export class Batcher {
  readonly #options: BatcherOptions;
  #open: Batch = emptyBatch();
  #items = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: BatcherOptions) {
    this.#options = options;
  }

  /** A message without events or rejects waits in a batch too: it is acknowledged in its turn. */
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

  /** Closes the open batch, if there is anything in it. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#items === 0) return;
    const batch = this.#open;
    this.#open = emptyBatch();
    this.#items = 0;
    this.#options.onBatch(batch);
  }
}

function emptyBatch(): Batch {
  return { messages: [], events: [], rejected: [], future: [], bytes: 0 };
}
