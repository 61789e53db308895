/** Instants as whole microseconds: exact in a double, in Redis and in Postgres, so that all three order events the same way. */
import type { CeleryEvent } from "./event.ts";

/** Converts seconds since the epoch to whole microseconds. */
export function toMicroseconds(seconds: number): number {
  return Math.round(seconds * 1e6);
}

/** The latest instant accepted, in seconds: 2096-10-02. Twice its microseconds still fit a double. */
export const MAX_TIMESTAMP = 4_000_000_000;

// Converts ISO 8601 instants, as Python's `datetime.isoformat()` writes them, to Unix seconds with all their microseconds.

const ISO = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?: ?(Z|z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?))?)?$/;

/**
 * Unix seconds of an ISO 8601 text; `undefined` if it is not one, or is before 1970 or after `MAX_TIMESTAMP`.
 * A text without an offset is UTC, as in Celery with `enable_utc`.
 */
export function parseIsoTime(text: string): number | undefined {
  const match = ISO.exec(text);
  if (match === null) return undefined;
  const [, year, month, day, hour = 0, minute = 0, second = 0, fraction = "", offset = ""] = match;
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return undefined;
  // Date.UTC takes years below 100 as 19xx.
  if (Number(year) < 1969) return undefined;
  const date = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second)));
  // Date.UTC turns 30 February into 2 March.
  if (date.getUTCMonth() !== Number(month) - 1) return undefined;
  const microseconds = Number(fraction.slice(0, 6).padEnd(6, "0"));
  const seconds = ((date.getTime() / 1_000 - offsetSeconds(offset)) * 1e6 + microseconds) / 1e6;
  return seconds >= 0 && seconds <= MAX_TIMESTAMP ? seconds : undefined;
}

function offsetSeconds(offset: string): number {
  const digits = offset.replaceAll(/\D/g, "");
  const seconds = Number(digits.slice(0, 2)) * 3_600 + Number(digits.slice(2, 4)) * 60 + Number(digits.slice(4, 6));
  return offset.startsWith("-") ? -seconds : seconds;
}

// Events from the future: while a sender's clock is far ahead, its events would beat all real ones and escape retention.

/** In seconds. Local time that was mistaken for UTC is at most 14 hours ahead, so no time zone counts as the future. */
export const MAX_AHEAD_SECONDS = 86_400;

/** @param now Unix time in seconds. */
export function isFuture({ timestamp }: CeleryEvent, now: number): boolean {
  return timestamp > now + MAX_AHEAD_SECONDS;
}
