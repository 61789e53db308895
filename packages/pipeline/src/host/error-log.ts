/** Logs unknown errors in full: most are bugs, which cannot be found without a stack trace. */
import type { Logger } from "@celery-metrics-exporter/runtime";

const FIRST_INTERVAL_MS = 10_000;
const LAST_INTERVAL_MS = 3_600_000;

/** Logs the first error, and then one line at growing intervals while errors keep coming. */
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
    this.#logger.error({ err, count: this.#unlogged }, "the exporter failed with an unknown error");
    // A long silence ends a series.
    const isSeries = quietMs < 2 * this.#intervalMs;
    this.#intervalMs = isSeries ? Math.min(LAST_INTERVAL_MS, 2 * this.#intervalMs) : FIRST_INTERVAL_MS;
    this.#loggedAt = this.#now();
    this.#unlogged = 0;
  }
}
