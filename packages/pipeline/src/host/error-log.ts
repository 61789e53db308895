/** Logs errors of no known kind in full: most are bugs, and without a stack nobody can find them. */
import type { Logger } from "@celery-metrics-exporter/runtime";

const FIRST_INTERVAL_MS = 10_000;
const LAST_INTERVAL_MS = 3_600_000;

/** One line at first, then at growing intervals while errors keep coming. */
export class ErrorLog {
  readonly #logger: Logger;
  readonly #now: () => number;
  #unlogged = 0;
  #intervalMs = 0;
  #loggedAt = Number.NEGATIVE_INFINITY;

  /** @param now milliseconds, monotonic. */
  constructor(logger: Logger, now: () => number = () => performance.now()) {
    this.#logger = logger;
    this.#now = now;
  }

  add(err: Error): void {
    this.#unlogged += 1;
    const quietMs = this.#now() - this.#loggedAt;
    if (quietMs < this.#intervalMs) return;
    this.#logger.error({ err, count: this.#unlogged }, "the exporter failed with an error of no known kind");
    // A long silence is the end of a series.
    const isSeries = quietMs < 2 * this.#intervalMs;
    this.#intervalMs = isSeries ? Math.min(LAST_INTERVAL_MS, 2 * this.#intervalMs) : FIRST_INTERVAL_MS;
    this.#loggedAt = this.#now();
    this.#unlogged = 0;
  }
}
