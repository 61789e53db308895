/** Tells whether Redis has just come back from an outage, or is about to. */

/**
 * A process that had done something when Redis went away, and had not noted it, notes it when it is connected again; by then another may have
 * been given its job. Likewise receivers that had events in hand. This is as long as connections take to come back (at most 1 s apart), the next
 * try, and the work that has piled up before it.
 */
const SETTLING_MS = 5_000;

/** Told of one connection by whoever opens it. */
export class RedisReturn {
  #at = Number.NEGATIVE_INFINITY;

  readonly onLost = (): void => {
    this.#at = Number.POSITIVE_INFINITY;
  };

  /** The first connection is no return. */
  readonly onConnected = (): void => {
    if (this.#at === Number.POSITIVE_INFINITY) this.#at = performance.now();
  };

  /** Whether others may still have to note what they had done before. True while it is away: a worker's own connection may be back sooner. */
  get isRecent(): boolean {
    return performance.now() - this.#at < SETTLING_MS;
  }
}
