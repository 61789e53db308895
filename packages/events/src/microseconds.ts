/** Instants as whole microseconds: exact in a double, in Redis and in Postgres alike, so that all three order events the same way. */

/** Seconds since the epoch to whole microseconds. */
export function toMicroseconds(seconds: number): number {
  return Math.round(seconds * 1e6);
}

/** The latest instant accepted, in seconds: 2096-10-02. Twice its microseconds still fit a double. */
export const MAX_TIMESTAMP = 4_000_000_000;
