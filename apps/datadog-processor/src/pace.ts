/** Evens out bursts. */
import { setTimeout as sleep } from "node:timers/promises";

/** How many may go at once after a pause. */
const BURST = 8;

/** Lets so many through per second, a few of them at once. For one caller at a time. */
export class Pace {
  readonly #intervalMs: number;
  /** When the next would be due if all so far had been evenly spaced. */
  #dueAt = 0;

  constructor(perSecond: number) {
    this.#intervalMs = 1_000 / perSecond;
  }

  /** Resolves when one more may go. */
  async take(): Promise<void> {
    const aheadMs = this.#dueAt - BURST * this.#intervalMs - performance.now();
    if (aheadMs > 0) await sleep(Math.ceil(aheadMs));
    this.#dueAt = Math.max(this.#dueAt, performance.now()) + this.#intervalMs;
  }
}
