/** Whether Redis has just come back from an outage, or is still unavailable. */

/**
 * How long after an outage other processes may still have to catch up. A process that had done something when Redis became unavailable can
 * note it only once it is connected again; by then, its job may have been given to another process. The same goes for receivers with events
 * in memory. The time covers the reconnections (at most 1 s apart), the next try, and the work that has piled up before it.
 */
const CATCH_UP_MS = 5_000;

/** Follows one connection. The code that opens the connection calls `onLost` and `onConnected`. */
export class RedisReturn {
  #at = Number.NEGATIVE_INFINITY;

  readonly onLost = (): void => {
    this.#at = Number.POSITIVE_INFINITY;
  };

  /** The first connection does not count as a return. */
  readonly onConnected = (): void => {
    if (this.#at === Number.POSITIVE_INFINITY) this.#at = performance.now();
  };

  /**
   * Whether others may still have to note what they did before. Also true during the outage, because a worker's own connection may be back
   * sooner.
   */
  get isRecent(): boolean {
    return performance.now() - this.#at < CATCH_UP_MS;
  }
}
