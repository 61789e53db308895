/** Buffers messages until they are handed over: first in, first out, bounded by bytes, with pause and hold. */

interface Sized {
  readonly bytes: number;
}

export interface MessageBufferOptions<M> {
  /** Receives each message in order. Must not throw. */
  readonly handOver: (message: M) => void;
  readonly maxBytes?: number;
  /** Number of messages handed over before the event loop runs and the socket is read again. */
  readonly messagesPerTurn: number;
}

/** An empty buffer accepts a message larger than the bound, so that it is not rejected forever. */
export class MessageBuffer<M extends Sized> {
  readonly #handOver: (message: M) => void;
  readonly #maxBytes: number;
  readonly #messagesPerTurn: number;
  /** Entries before `#next` are handed over, and set to undefined to free them. */
  #messages: (M | undefined)[] = [];
  #next = 0;
  #bytes = 0;
  #paused = false;
  /** Number of messages to hand over before keeping the rest. */
  #passing = Number.POSITIVE_INFINITY;
  #scheduled = false;
  #emptied: (() => void)[] = [];

  constructor({ handOver, maxBytes = Number.POSITIVE_INFINITY, messagesPerTurn }: MessageBufferOptions<M>) {
    this.#handOver = handOver;
    this.#maxBytes = maxBytes;
    this.#messagesPerTurn = messagesPerTurn;
  }

  get size(): number {
    return this.#messages.length - this.#next;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The message that is handed over next. */
  get oldest(): M | undefined {
    return this.#messages[this.#next];
  }

  /** Whether `hold` is in effect. */
  get isHolding(): boolean {
    return this.#passing !== Number.POSITIVE_INFINITY;
  }

  /** Adds a message. Returns false if it does not fit. */
  push(message: M): boolean {
    if (this.#bytes + message.bytes > this.#maxBytes && this.size > 0) return false;
    this.#messages.push(message);
    this.#bytes += message.bytes;
    this.#schedule();
    return true;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#schedule();
  }

  /** Hands over the current messages and keeps later ones. Idempotent. */
  hold(): void {
    if (!this.isHolding) this.#passing = this.size;
  }

  /** Ends `hold`: hands over the kept messages and all later ones. */
  release(): void {
    this.#passing = Number.POSITIVE_INFINITY;
    this.#schedule();
  }

  /** Removes and returns kept messages, oldest first, while `which` is true. Removes none until the messages from before `hold` are handed over. */
  takeKept(which: (message: M) => boolean): M[] {
    const taken: M[] = [];
    if (this.#passing > 0) return taken;
    for (let message = this.#messages[this.#next]; message !== undefined && which(message); message = this.#messages[this.#next]) {
      taken.push(message);
      this.#remove(message);
    }
    this.#tidy();
    return taken;
  }

  /** Removes and returns kept messages, oldest first, until this many bytes fit. */
  makeRoom(bytes: number): M[] {
    return this.takeKept(() => this.#bytes + bytes > this.#maxBytes);
  }

  /** Removes and returns all messages. */
  clear(): M[] {
    const left = this.#messages.slice(this.#next).filter((message) => message !== undefined);
    if (this.isHolding) this.#passing = 0;
    this.#reset();
    return left;
  }

  /** Resolves once the buffer is empty. */
  async empty(): Promise<void> {
    if (this.size === 0) return;
    await new Promise<void>((resolve) => this.#emptied.push(resolve));
  }

  get #isOpen(): boolean {
    return !this.#paused && this.#passing > 0;
  }

  #schedule(): void {
    if (this.#scheduled || !this.#isOpen || this.size === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#turn();
    });
  }

  #turn(): void {
    for (let count = 0; count < this.#messagesPerTurn && this.#isOpen; count += 1) {
      const message = this.#messages[this.#next];
      if (message === undefined) break;
      this.#remove(message);
      this.#passing -= 1;
      this.#handOver(message);
    }
    this.#tidy();
    this.#schedule();
  }

  #remove(message: M): void {
    this.#messages[this.#next] = undefined;
    this.#next += 1;
    this.#bytes -= message.bytes;
  }

  #tidy(): void {
    if (this.size === 0) this.#reset();
    else if (this.#next > 4096 && this.#next * 2 > this.#messages.length) this.#compact();
  }

  #compact(): void {
    this.#messages = this.#messages.slice(this.#next);
    this.#next = 0;
  }

  #reset(): void {
    this.#messages = [];
    this.#next = 0;
    this.#bytes = 0;
    for (const resolve of this.#emptied.splice(0)) resolve();
  }
}
