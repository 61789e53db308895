/** ISO 8601 instants as Python's `datetime.isoformat()` writes them, to Unix seconds with all their microseconds. */
import { MAX_TIMESTAMP } from "./microseconds.ts";

const ISO = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?: ?(Z|z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?))?)?$/;

/**
 * Unix seconds of an ISO 8601 text; `undefined` where it is none, or before 1970, or after `MAX_TIMESTAMP`.
 * A text without offset is UTC, as in Celery with `enable_utc`.
 */
export function parseIsoTime(text: string): number | undefined {
  const match = ISO.exec(text);
  if (match === null) return undefined;
  const [, year = "", month = "", day = "", hour = "0", minute = "0", second = "0", fraction = "", offset = ""] = match;
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return undefined;
  // Years below 100 would be taken for 19xx.
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
  if (digits === "") return 0;
  const seconds = Number(digits.slice(0, 2)) * 3_600 + Number(digits.slice(2, 4)) * 60 + Number(digits.slice(4, 6));
  return offset.startsWith("-") ? -seconds : seconds;
}
