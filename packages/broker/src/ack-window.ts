/** Which deliveries of one AMQP channel are settled, so that one `basic.ack` can acknowledge many. */

/**
 * Delivery tags of a channel count up from 1. A batch settles its deliveries when it is stored, in any order of batches; the broker is told
 * once per turn, of the highest tag below which all are settled (`multiple`). Frames are many, acknowledgements few.
 */
export class AckWindow {
  readonly #ack: (tag: number) => void;
  readonly #schedule: (flush: () => void) => void;
  /** Every tag up to this one is settled. */
  #settled = 0;
  /** The highest tag at or below `#settled` that may be acknowledged: the broker refuses the tag of a message that was given back. */
  #ackable = 0;
  #acked = 0;
  #delivered = 0;
  #scheduled = false;
  /** Settled beyond a gap: true for done, false for given back. */
  readonly #ahead = new Map<number, boolean>();

  /**
   * @param ack acknowledges every delivery up to this tag.
   * @param schedule decides when to tell the broker of what is settled meanwhile. Default: at the end of the turn.
   */
  constructor(ack: (tag: number) => void, schedule: (flush: () => void) => void = queueMicrotask) {
    this.#ack = ack;
    this.#schedule = schedule;
  }

  /** Deliveries that are not settled yet. */
  get open(): number {
    return this.#delivered - this.#settled - this.#ahead.size;
  }

  delivered(tag: number): void {
    this.#delivered = tag;
  }

  /** The delivery is dealt with: to be acknowledged. */
  done(tag: number): void {
    this.#settle(tag, true);
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#schedule(() => this.flush());
  }

  /** The delivery went back to its queue: the broker has been told already. */
  givenBack(tag: number): void {
    this.#settle(tag, false);
  }

  /** Tells the broker now. */
  flush(): void {
    this.#scheduled = false;
    if (this.#ackable <= this.#acked) return;
    this.#acked = this.#ackable;
    this.#ack(this.#ackable);
  }

  #settle(tag: number, done: boolean): void {
    if (tag !== this.#settled + 1) {
      if (tag > this.#settled) this.#ahead.set(tag, done);
      return;
    }
    this.#advance(tag, done);
    for (let next = this.#ahead.get(tag + 1); next !== undefined; next = this.#ahead.get(this.#settled + 1)) {
      this.#ahead.delete(this.#settled + 1);
      this.#advance(this.#settled + 1, next);
    }
  }

  #advance(tag: number, done: boolean): void {
    this.#settled = tag;
    if (done) this.#ackable = tag;
  }
}
