/** The messages that one receiver gets from a broadcast: handed over while it is active, otherwise kept in case it becomes active. */
import { type Decoded, decodeEnvelope } from "@celery-metrics-exporter/celery";
import { MessageBuffer } from "../source/message-buffer.ts";
import type { RawMessage } from "../source/source.ts";

export interface BroadcastBufferOptions {
  /** Receives each message in order. Must not throw. */
  readonly handOver: (message: RawMessage) => void;
  readonly maxBytes: number;
  /** A message did not fit. This receiver has lost it. */
  readonly onDropped: () => void;
  /** Kept messages were dropped in favor of newer ones. */
  readonly onKeptDropped: (messages: number) => void;
}

/** Fewer messages than one read of the socket, so that it is read soon: Redis disconnects slow subscribers and drops their buffered messages. */
const MESSAGES_PER_TURN = 64;

/** Starts as active. Times are `performance.now()`. */
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

  /** When the oldest message that is not handed over yet arrived. */
  get waitingSince(): number | undefined {
    return this.#buffer.oldest?.at;
  }

  /** All messages published before this time have arrived and are acknowledged or dropped. */
  get safeUntil(): number {
    return this.#watermark.safeUntil;
  }

  /** No kept message that arrived after this time was dropped. */
  get completeSince(): number {
    return this.#completeSince;
  }

  arrived(payload: Buffer): void {
    const at = performance.now();
    // The process was paused or its event loop blocked for so long that another receiver may now be active.
    if (at > this.#handOverUntil) this.#buffer.hold();
    const message = new BroadcastMessage(payload, at, this.#watermark);
    if (!this.#buffer.push(message)) this.#squeeze(message);
  }

  /** A probe sent at this time was answered on the connection that carries the messages. */
  heardUntil(moment: number): void {
    this.#watermark.heardUntil(moment);
  }

  /** Hands over the kept messages and all messages that arrive until this time. Keeps later ones. */
  handOverUntil(moment: number): void {
    if (this.#draining) return;
    this.#handOverUntil = moment;
    if (performance.now() <= moment) this.#buffer.release();
    else this.#buffer.hold();
  }

  /** Keeps messages from now on. */
  keep(): void {
    this.handOverUntil(Number.NEGATIVE_INFINITY);
  }

  /** Drops kept messages that arrived before this time. */
  forget(before: number): void {
    for (const message of this.#buffer.takeKept(({ at }) => at < before)) message.ack();
  }

  pause(): void {
    this.#buffer.pause();
  }

  resume(): void {
    this.#buffer.resume();
  }

  /** Hands over all messages and resolves when the buffer is empty. `unsubscribe` must stop new messages soon. */
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

  /** A standby drops its oldest messages, because it needs the newest to take over. The active receiver drops the new message. */
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

  /** Marks the message as safe, for the standby receivers. Redis itself has no acknowledgements. */
  ack(): void {
    if (this.#span === undefined) return;
    this.#watermark.done(this.#span);
    this.#span = undefined;
  }
}

// Watermark: the time up to which all published messages are safe. Times are `performance.now()`, in milliseconds.

/** The messages that arrived between two answered probes. All were published after `since`. */
export interface Span {
  readonly since: number;
  unsafe: number;
}

/**
 * A probe is a PING on the connection that carries the messages. Its answer arrives after everything published before it. So once it arrives, no
 * message from before the probe is still in transit, in an unread socket or in a paused process. Arrival times alone cannot guarantee that.
 */
export class Watermark {
  #spans: readonly [Span, ...Span[]];

  /** @param startedAt a time before the first subscription. */
  constructor(startedAt: number) {
    this.#spans = [{ since: startedAt, unsafe: 0 }];
  }

  /** A message arrived. Pass the span to `done` once the message is safe or dropped. */
  arrived(): Span {
    const span = this.#spans.at(-1) ?? this.#spans[0];
    span.unsafe += 1;
    return span;
  }

  /** Call once per message. */
  done(span: Span): void {
    span.unsafe -= 1;
  }

  /** A probe sent at this time was answered. */
  heardUntil(moment: number): void {
    const next: Span = { since: moment, unsafe: 0 };
    const [first, ...others] = [...this.#spans.filter(({ unsafe }) => unsafe > 0), next];
    this.#spans = [first ?? next, ...others];
  }

  /** All messages published before this time have arrived and are safe or dropped. */
  get safeUntil(): number {
    const last = this.#spans.at(-1) ?? this.#spans[0];
    return (this.#spans.find(({ unsafe }) => unsafe > 0) ?? last).since;
  }
}
