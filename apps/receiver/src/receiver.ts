/** The receiver's flow: message → decode → filter → batch → exporters' queues → acknowledge, with bounded memory. */
import type { EventSource, RawMessage } from "@celery-metrics-exporter/broker";
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { type ComponentHealth, Repeat } from "@celery-metrics-exporter/runtime";
import { Batcher, type Batch, type BatcherOptions } from "./batcher.ts";
import type { Delivery } from "./delivery.ts";
import type { EventAdvice } from "./event-advice.ts";
import type { ReceiverMetrics } from "./receiver-metrics.ts";
import type { Redaction } from "./redaction/redaction.ts";
import type { SenderClocks } from "./clocks/sender-clocks.ts";

export interface ReceiverOptions {
  readonly source: EventSource;
  readonly delivery: Pick<Delivery, "deliver">;
  /** Whether an event is worth bringing to the filters and queues at all. */
  readonly takes: (event: CeleryEvent) => boolean;
  /** Why to stop taking: what is full. Undefined where nothing is. Asked often. */
  readonly fullBecause: () => string | undefined;
  readonly batch: Omit<BatcherOptions, "onBatch">;
  /** Hides what is not to be stored. */
  readonly redaction: Redaction | undefined;
  readonly metrics: ReceiverMetrics;
  readonly advice: EventAdvice;
  readonly clocks: SenderClocks;
  /** Whether events are being taken. */
  readonly health: ComponentHealth;
}

/** Batches on their way to Redis at one time: enough to hide its latency; more would only be held in memory when it is away. */
const MAX_IN_FLIGHT = 4;
const CHECK_MS = 500;

/**
 * Memory is bounded by one rule: the source is paused while `MAX_IN_FLIGHT` batches, or as many bytes as one batch may have, wait to be
 * stored, whether Redis is slow or away, and while a queue is full. A message is acknowledged only when all of its batch is safe.
 */
export class Receiver {
  readonly #options: ReceiverOptions;
  readonly #batcher: Batcher;
  readonly #inFlight = new Set<Promise<void>>();
  /** Of the batches in flight, as they came from the broker. */
  #bytesInFlight = 0;
  /** Ends the retries, where the broker would deliver again what is not acknowledged. */
  readonly #giveUp = new AbortController();
  #regulating: Repeat | undefined;
  #draining = false;

  constructor(options: ReceiverOptions) {
    this.#options = options;
    this.#batcher = new Batcher({ ...options.batch, onBatch: (batch) => this.#send(batch) });
  }

  /** @throws {UnavailableError} when the broker does not take us. */
  async start(): Promise<void> {
    this.#regulate();
    await this.#options.source.start((message) => this.#take(message));
    this.#regulating = new Repeat(() => this.#regulate(), { everyMs: CHECK_MS });
  }

  /** Takes nothing more, and resolves when all that was taken is safe, or left to the broker. Safe without `start`. */
  async drain(): Promise<void> {
    const { source } = this.#options;
    this.#draining = true;
    const drained = source.drain();
    this.#regulate();
    await drained;
    await this.#regulating?.stop();
    this.#batcher.flush();
    if (source.redelivers) this.#giveUp.abort();
    await Promise.all(this.#inFlight);
  }

  #take(message: RawMessage): void {
    const { metrics, advice, clocks, redaction } = this.#options;
    const decoded = message.decode();
    const { events, rejected } = redaction === undefined ? decoded : redaction(decoded);
    advice.observe(events);
    const { inTime, future } = clocks.sort(events);
    metrics.received({ inTime, future, rejected });
    this.#batcher.add(message, { events: this.#taken(inTime), rejected, future });
  }

  #taken(events: readonly CeleryEvent[]): readonly CeleryEvent[] {
    const { takes, metrics } = this.#options;
    const taken = events.filter(takes);
    metrics.notTaken(events.length - taken.length);
    return taken;
  }

  /** The batch with its events from the future among the others, or refused. Only those that were for an exporter become dead letters. */
  #judged(batch: Batch): Batch {
    const { clocks, metrics, takes } = this.#options;
    const { events, future } = batch;
    if (future.length === 0) return batch;
    if (clocks.takes(future)) return { ...batch, events: [...events, ...this.#taken(future)], future: [] };
    metrics.refusedFuture(future.length);
    return { ...batch, future: future.filter(takes) };
  }

  #send(batch: Batch): void {
    const judged = this.#judged(batch);
    this.#options.metrics.flush();
    const sending = this.#deliver(judged).finally(() => {
      this.#inFlight.delete(sending);
      this.#bytesInFlight -= batch.bytes;
      this.#regulate();
    });
    this.#inFlight.add(sending);
    this.#bytesInFlight += batch.bytes;
    this.#regulate();
  }

  async #deliver(batch: Batch): Promise<void> {
    const safe = await this.#options.delivery.deliver(batch, this.#giveUp.signal);
    if (safe) for (const message of batch.messages) message.ack();
  }

  #regulate(): void {
    const { source, health, fullBecause } = this.#options;
    // What is left at the end is little, and has nowhere else to go.
    const full = this.#draining ? undefined : fullBecause();
    if (full === undefined) health.up();
    else health.down(`holding: ${full}`);
    if (full !== undefined || this.#isBusy) source.pause();
    else source.resume();
  }

  get #isBusy(): boolean {
    return this.#inFlight.size >= MAX_IN_FLIGHT || this.#bytesInFlight >= this.#options.batch.maxBytes;
  }
}
