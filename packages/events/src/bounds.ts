/**
 * What one message may cost us. A body within these bounds is read in a few seconds and a few hundred megabytes at worst; without them 10 MB hold
 * up the process for half a minute. Celery sends at most 24 events in a message (celery/events/dispatcher.py, `buffer_limit`); these bounds leave
 * room for 100,000.
 */

/** As it comes from the broker. RabbitMQ's own default limit is 16 MiB since 4.0 (`max_message_size`), 128 MiB before. */
export const MAX_FRAME_BYTES = 64 * 2 ** 20;
export const MAX_DEPTH = 100;
/** A list of 100,000 events with all that Celery puts in has 1.9 million. */
export const MAX_VALUES = 2_000_000;
/** Objects without a key in common cost V8 ten times what alike ones do; Celery's events have 30 keys between them. */
export const MAX_KEYS = 10_000;
/** Up to this size, in bytes or characters, a body is not looked through first: whatever it is takes milliseconds. */
export const SMALL_BODY = 65_536;

/** Thrown for a body past a bound. The message is a sentence for people, and holds nothing of the body. */
export class TooLargeError extends Error {}

/** @throws {TooLargeError} */
export function checkSize(body: Uint8Array | string): void {
  if (body.length > MAX_FRAME_BYTES) throw new TooLargeError(`the body is longer than ${MAX_FRAME_BYTES / 2 ** 20} MiB`);
}

/** Counts what a look through a body finds. Each method throws `TooLargeError` once there is too much. */
export class Census {
  readonly #keys = new Set<string>();
  #values = 0;

  value(): void {
    if (++this.#values > MAX_VALUES) throw new TooLargeError(`the body has more than ${MAX_VALUES} values`);
  }

  key(key: string): void {
    this.#keys.add(key);
    if (this.#keys.size > MAX_KEYS) throw new TooLargeError(`the body has more than ${MAX_KEYS} different keys`);
  }

  depth(depth: number): void {
    if (depth > MAX_DEPTH) throw new TooLargeError(`the body is nested more than ${MAX_DEPTH} levels`);
  }
}
