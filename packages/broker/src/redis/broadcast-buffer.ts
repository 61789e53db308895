/** What one receiver of a broadcast hears: handed over while it is the active one, else kept for the moment when it becomes that. */
import { type Decoded, decodeEnvelope } from "@celery-metrics-exporter/celery";
import { MessageBuffer } from "../source/message-buffer.ts";
import type { RawMessage } from "../source/source.ts";

export interface BroadcastBufferOptions {
  /** Gets each message in order. Must not throw. */
  readonly handOver: (message: RawMessage) => void;
  readonly maxBytes: number;
  /** A message came that did not fit and is lost, as far as this receiver goes. */
  readonly onDropped: () => void;
  /** Messages that were kept gave way to newer ones. */
  readonly onKeptDropped: (messages: number) => void;
}

/** Fewer than one reading of the socket brings: Redis disconnects slow subscribers and drops their buffered messages. */
const MESSAGES_PER_TURN = 64;

/** Active until told otherwise. Moments are `performance.now()`. */
export class BroadcastBuffer {
  readonly #options: BroadcastBufferOptions;
  readonly #buffer: MessageBuffer<BroadcastMessage>;
  readonly #watermark = new Watermark(performance.now());
  #handOverUntil = Number.POSITIVE_INFINITY;
  #completeSince = Number.NEGATIVE_INFINITY;
  #draining = false;

  constructor(options: BroadcastBufferOptions) {
    this.#options = options;
    const { handOver, maxBytes } = options;
    this.#buffer = new MessageBuffer<BroadcastMessage>({ handOver, maxBytes, messagesPerTurn: MESSAGES_PER_TURN });
  }

  get bytes(): number {
    return this.#buffer.bytes;
  }

  /** Everything published before this moment has come, and is acknowledged or given up. */
  get safeUntil(): number {
    return this.#watermark.safeUntil;
  }

  /** Of what came after this moment nothing kept was dropped. */
  get completeSince(): number {
    return this.#completeSince;
  }

  arrived(payload: Buffer): void {
    const at = performance.now();
    // The process was stopped or the loop stood still for so long that another receiver may be the active one by now.
    if (at > this.#handOverUntil) this.#buffer.hold();
    const message = new BroadcastMessage(payload, at, this.#watermark);
    if (!this.#buffer.push(message)) this.#squeeze(message);
  }

  /** A probe that was sent at this moment has been answered on the connection that the messages come on. */
  heardUntil(moment: number): void {
    this.#watermark.heardUntil(moment);
  }

  /** Hands over what was kept, and all that comes until this moment; what comes later is kept. */
  handOverUntil(moment: number): void {
    if (this.#draining) return;
    this.#handOverUntil = moment;
    if (performance.now() <= moment) this.#buffer.release();
    else this.#buffer.hold();
  }

  /** Keeps what comes from now on. */
  keep(): void {
    this.handOverUntil(Number.NEGATIVE_INFINITY);
  }

  /** Lets go of what came before this moment and was only kept. */
  forget(before: number): void {
    for (const message of this.#buffer.takeKept(({ at }) => at < before)) message.ack();
  }

  pause(): void {
    this.#buffer.pause();
  }

  resume(): void {
    this.#buffer.resume();
  }

  /** Hands over whatever is in it, and resolves when nothing is left. Nothing new must be arriving for long. */
  async drain(unsubscribe: () => Promise<void>): Promise<void> {
    this.#draining = true;
    this.#handOverUntil = Number.POSITIVE_INFINITY;
    this.#buffer.release();
    await unsubscribe();
    await this.#buffer.empty();
  }

  clear(): void {
    this.#buffer.clear();
  }

  /** For the one who is to take over, the newest messages are the ones that count; for the active one, those it has begun with. */
  #squeeze(message: BroadcastMessage): void {
    const { onDropped, onKeptDropped } = this.#options;
    const dropped = this.#buffer.makeRoom(message.bytes);
    for (const old of dropped) old.ack();
    if (dropped.length > 0) onKeptDropped(dropped.length);
    const kept = this.#buffer.push(message);
    if (!kept) {
      message.ack();
      onDropped();
    }
    if (this.#buffer.isHolding) this.#completeSince = kept ? (dropped.at(-1)?.at ?? this.#completeSince) : message.at;
  }
}

const NOTHING = Buffer.alloc(0);

class BroadcastMessage implements RawMessage {
  readonly at: number;
  readonly bytes: number;
  #payload: Buffer;
  readonly #watermark: Watermark;
  #span: Span | undefined;

  constructor(payload: Buffer, at: number, watermark: Watermark) {
    this.#payload = payload;
    this.bytes = payload.length;
    this.at = at;
    this.#watermark = watermark;
    this.#span = watermark.arrived();
  }

  decode(): Decoded {
    const payload = this.#payload;
    this.#payload = NOTHING;
    return decodeEnvelope(payload);
  }

  /** The broker keeps nothing that could be acknowledged: this is for whoever stands by. */
  ack(): void {
    if (this.#span === undefined) return;
    this.#watermark.settled(this.#span);
    this.#span = undefined;
  }
}

// How far everything that was published is known to be safe. Moments are `performance.now()`, in milliseconds.

/** The messages that arrived between two answered probes: all were published after `since`. */
export interface Span {
  readonly since: number;
  unsafe: number;
}

/**
 * A probe is a PING on the connection that the messages come on. Its answer comes behind all that was published before, so that when it is there
 * nothing from before the probe is still on its way, in a socket that was not read, or in a process that was stopped. Arrival times alone would
 * claim too much.
 */
export class Watermark {
  #spans: readonly [Span, ...Span[]];

  /** @param startedAt a moment before anything was subscribed to. */
  constructor(startedAt: number) {
    this.#spans = [{ since: startedAt, unsafe: 0 }];
  }

  /** A message has arrived. Hand the span back to `settled` once the message is safe, or given up. */
  arrived(): Span {
    const span = this.#spans.at(-1) ?? this.#spans[0];
    span.unsafe += 1;
    return span;
  }

  /** Once for each message. */
  settled(span: Span): void {
    span.unsafe -= 1;
  }

  /** A probe that was sent at this moment has been answered. */
  heardUntil(moment: number): void {
    const next: Span = { since: moment, unsafe: 0 };
    const [first, ...others] = [...this.#spans.filter(({ unsafe }) => unsafe > 0), next];
    this.#spans = [first ?? next, ...others];
  }

  /** All that was published before this moment has arrived and is settled. */
  get safeUntil(): number {
    const last = this.#spans.at(-1) ?? this.#spans[0];
    return (this.#spans.find(({ unsafe }) => unsafe > 0) ?? last).since;
  }
}
