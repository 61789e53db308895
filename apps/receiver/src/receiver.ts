/** The receiver's flow with bounded memory: message → decode → filter → batch → exporter queues → acknowledge. */
import type { EventSource, RawMessage } from "@celery-metrics-exporter/broker";
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { type ComponentHealth, type Logger, Repeat } from "@celery-metrics-exporter/runtime";
import { Batcher, type Batch, type BatcherOptions, type Delivery } from "./batches.ts";
import type { EventAdvice } from "./event-advice.ts";
import type { ReceiverMetrics } from "./receiver-metrics.ts";
import type { Redaction } from "./redaction/redaction.ts";
import type { RedisClock } from "./redis-clock.ts";
import type { SenderClocks } from "./clocks.ts";

export interface ReceiverOptions {
  readonly source: EventSource;
  readonly delivery: Pick<Delivery, "deliver">;
  /** Reports to the exporters of what time they have got all events, in seconds since the epoch, by the clock. */
  readonly reportListened: (time: { readonly since: number; readonly until: number }) => Promise<void>;
  /** A worker has come online. Called often. */
  readonly onWorkerOnline: () => void;
  /** Whether this receiver hands over what it receives. Others may be on standby. */
  readonly isActive: () => boolean;
  /** Whether any exporter takes this event. */
  readonly takes: (event: CeleryEvent) => boolean;
  /** Names what is full, as the reason to pause; undefined if nothing is full. Called often. */
  readonly fullBecause: () => string | undefined;
  readonly batch: Omit<BatcherOptions, "onBatch" | "now">;
  /** By which it says when it heard something, and when it listened. */
  readonly clock: Pick<RedisClock, "now" | "sync">;
  /** Hides what must not be stored. */
  readonly redaction: Redaction | undefined;
  readonly metrics: ReceiverMetrics;
  readonly advice: EventAdvice;
  readonly clocks: SenderClocks;
  /** Whether the receiver is taking events. */
  readonly health: ComponentHealth;
  readonly logger: Logger;
}

/** Maximum number of batches on their way to Redis: enough to hide its latency. More would only occupy memory while Redis is away. */
const MAX_IN_FLIGHT = 4;
const CHECK_MS = 500;
/** Often enough to notice a lost worker soon, and rarely enough to cost nothing. */
const REPORT_MS = 5_000;
/** A batch that needs longer to be stored leaves events waiting behind it, whose workers would look silent. */
const SLOW_MS = 5_000;
/** If nothing ran for longer, the process was frozen or busy. What was sent meanwhile may still wait in a socket. */
const FROZEN_MS = 5_000;

/**
 * One rule bounds the memory: the source is paused while `MAX_IN_FLIGHT` batches, or as many bytes as one batch may have, wait to be stored,
 * whether Redis is slow or away, and while a queue is full. A message is acknowledged only when its whole batch is safe.
 */
export class Receiver {
  readonly #options: ReceiverOptions;
  readonly #batcher: Batcher;
  readonly #inFlight = new Set<Promise<void>>();
  /** Size of the batches in flight, as received from the broker. */
  #bytesInFlight = 0;
  /** Ends the retries if the broker redelivers messages that are not acknowledged. */
  readonly #giveUp = new AbortController();
  #regulating: Repeat | undefined;
  #reporting: Repeat | undefined;
  /** Since when nothing kept events waiting (`performance.now()`); undefined while something does. */
  #freeSince: number | undefined;
  #checkedAt = performance.now();
  #draining = false;

  constructor(options: ReceiverOptions) {
    this.#options = options;
    this.#batcher = new Batcher({ ...options.batch, now: () => options.clock.now(), onBatch: (batch) => this.#send(batch) });
  }

  /** @throws {UnavailableError} if the broker refuses us. */
  async start(): Promise<void> {
    this.#regulate();
    await this.#options.source.start((message) => this.#take(message));
    this.#regulating = new Repeat(() => this.#regulate(), { everyMs: CHECK_MS });
    // Redis is unavailable, which its health component shows.
    const onError = (err: Error): void => this.#options.logger.debug({ err }, "cannot report that this receiver listens");
    this.#reporting = new Repeat(() => this.#reportListened(), { everyMs: REPORT_MS, onError });
  }

  /** Stops taking messages. Resolves when everything taken is safe or left to the broker. Safe without `start`. */
  async drain(): Promise<void> {
    const { source } = this.#options;
    this.#draining = true;
    const reported = this.#reporting?.stop();
    const drained = source.drain();
    this.#regulate();
    await drained;
    await this.#regulating?.stop();
    this.#batcher.flush();
    if (source.redelivers) this.#giveUp.abort();
    await Promise.all(this.#inFlight);
    await reported;
  }

  #take(message: RawMessage): void {
    const { metrics, advice, clocks, redaction, onWorkerOnline } = this.#options;
    const decoded = message.decode();
    const { events, rejected } = redaction === undefined ? decoded : redaction(decoded);
    advice.observe(events);
    if (events.some(({ type }) => type === "worker-online")) onWorkerOnline();
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

  /** The batch after its events from the future were accepted or rejected. Rejected ones become dead letters only if an exporter takes their type. */
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
    const startedAt = performance.now();
    const safe = await this.#options.delivery.deliver(batch, this.#giveUp.signal);
    if (performance.now() - startedAt > SLOW_MS) this.#freeSince = undefined;
    if (safe) for (const message of batch.messages) message.ack();
  }

  #regulate(): void {
    const { source, health, fullBecause } = this.#options;
    // During a drain little is left, and it has nowhere else to go.
    const full = this.#draining ? undefined : fullBecause();
    const now = performance.now();
    if (now - this.#checkedAt > FROZEN_MS) this.#freeSince = undefined;
    this.#checkedAt = now;
    if (full !== undefined || source.listeningSince === undefined) this.#freeSince = undefined;
    else this.#freeSince ??= now;
    if (full === undefined) health.up();
    else health.down(`holding: ${full}`);
    if (full !== undefined || this.#isBusy) source.pause();
    else source.resume();
  }

  /** Once all events that came until now are stored, unless some are missing. */
  async #reportListened(): Promise<void> {
    const { source, clock, isActive, reportListened } = this.#options;
    if (await clock.sync()) this.#freeSince = undefined;
    this.#regulate();
    const [now, startedAt] = [clock.now(), performance.now()];
    this.#batcher.flush();
    // While the source is paused, messages wait in it.
    const takenUntil = Math.min(startedAt, source.waitingSince ?? startedAt);
    await Promise.all(this.#inFlight);
    const { listeningSince } = source;
    if (this.#draining || !isActive() || listeningSince === undefined || this.#freeSince === undefined) return;
    const secondsAt = (moment: number): number => now + (moment - startedAt) / 1_000;
    const [since, until] = [secondsAt(Math.max(listeningSince, this.#freeSince)), secondsAt(takenUntil)];
    if (since < until) await reportListened({ since, until });
  }

  get #isBusy(): boolean {
    return this.#inFlight.size >= MAX_IN_FLIGHT || this.#bytesInFlight >= this.#options.batch.maxBytes;
  }
}
