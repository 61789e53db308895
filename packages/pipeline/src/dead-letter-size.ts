/**
 * Dead letters small enough to keep 10,000 of, and whole wherever that is possible: only what is whole can be replayed. A job's payload is never
 * cut: it holds up to a whole batch, some megabytes. Such letters are rare: nobody writes payloads that this release cannot read, and few kill.
 */
import type { CeleryEvent } from "@celery-metrics-exporter/events";
import type { DeadLetter } from "./letter.ts";

const MAX_DETAIL_CHARACTERS = 1_024;
/** An event up to this size, as JSON, is kept whole: 10,000 letters with an event take at most 320 MiB of Redis. Celery's have a kilobyte or two. */
const MAX_EVENT_BYTES = 32_768;
/** What is longer keeps so much of each of its texts. */
const MAX_TEXT_CHARACTERS = 4_096;

/** The letter with what is long cut, and marked as `cut` if that is what a replay would need. */
export function shorten(letter: DeadLetter): DeadLetter {
  const { event, raw } = letter;
  const isLongEvent = event !== undefined && Buffer.byteLength(JSON.stringify(event)) > MAX_EVENT_BYTES;
  const isLongRaw = raw !== undefined && raw.length > MAX_TEXT_CHARACTERS;
  return {
    ...letter,
    detail: cut(letter.detail, MAX_DETAIL_CHARACTERS),
    ...(isLongRaw && { raw: cut(raw, MAX_TEXT_CHARACTERS) }),
    ...(isLongEvent && { event: shortenEvent(event) }),
    ...((isLongEvent || isLongRaw) && { cut: true }),
  };
}

function shortenEvent(event: CeleryEvent): CeleryEvent {
  const fields = Object.entries(event).map(([name, value]) => [name, typeof value === "string" ? cut(value, MAX_TEXT_CHARACTERS) : value]);
  return Object.fromEntries(fields) as CeleryEvent;
}

/** At most so many characters of a text, and its length where that is less than all. Does not keep the rest in memory. */
export function cut(text: string, characters: number): string {
  return text.length <= characters ? text : `${copyOf(text.slice(0, characters))}… (${text.length} characters)`;
}

/** A part of a string keeps the whole string in memory in V8, until it is copied. */
function copyOf(part: string): string {
  return Buffer.from(part).toString();
}
