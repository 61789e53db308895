/** How many messages the broker may send ahead, so that their bytes stay bounded too. */

export interface PrefetchOptions {
  /** Most messages that the broker may send ahead of their acknowledgement. */
  readonly messages: number;
  /** Most bytes that these are to have, by the mean size of what came last. */
  readonly bytes: number;
}

/** The mean is that of about this many messages. */
const REMEMBERED = 64;
/** A consumer gets this many messages before it is replaced by one with another prefetch: each change costs two round trips. */
const WORTH_A_CHANGE = 256;

/**
 * AMQP bounds a consumer by messages; RabbitMQ does not implement `prefetch_size`, and a consumer's prefetch cannot be changed. So a consumer
 * starts with the number of messages whose bytes fit, and another takes its place when that number would be twice or half as large by now.
 */
export class Prefetch {
  readonly #options: PrefetchOptions;
  #meanBytes = 0;
  #current: number;
  #arrived = 0;

  constructor(options: PrefetchOptions) {
    this.#options = options;
    this.#current = options.messages;
  }

  /** A consumer starts. @returns its prefetch, in messages. */
  begin(): number {
    this.#current = this.#fitting();
    this.#arrived = 0;
    return this.#current;
  }

  /** A message came. @returns whether another prefetch would fit much better. */
  arrived(bytes: number): boolean {
    this.#meanBytes += (bytes - this.#meanBytes) / REMEMBERED;
    this.#arrived += 1;
    if (this.#arrived < WORTH_A_CHANGE) return false;
    const fitting = this.#fitting();
    return fitting >= 2 * this.#current || this.#current >= 2 * fitting;
  }

  /** So many messages of so many bytes in all were too much. */
  overflowed(messages: number, bytes: number): void {
    this.#meanBytes = Math.max(this.#meanBytes, bytes / Math.max(1, messages));
  }

  #fitting(): number {
    const { messages, bytes } = this.#options;
    return Math.max(1, Math.min(messages, Math.floor(bytes / Math.max(1, this.#meanBytes))));
  }
}
