/** Limits how fast events may become dead letters: the dead-letter queue is bounded, so a flood of burials would push others out. */

/** A token bucket: `burst` at once, and as many again each minute. */
export class BurialLimit {
  readonly #perMinute: number;
  readonly #now: () => number;
  #left: number;
  #at: number;

  /** @param now milliseconds, monotonic. */
  constructor(perMinute = 100, now: () => number = () => performance.now()) {
    this.#perMinute = perMinute;
    this.#now = now;
    this.#left = perMinute;
    this.#at = now();
  }

  /** Whether one more burial is allowed now; if so, it counts. */
  take(): boolean {
    const now = this.#now();
    this.#left = Math.min(this.#perMinute, this.#left + ((now - this.#at) / 60_000) * this.#perMinute);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
