/** A dead letter: what could not be decoded or exported, and why. */
import { REJECT_REASONS, type CeleryEvent, type ReadAs, type Rejected } from "@celery-metrics-exporter/celery";

export interface DeadLetter {
  /** `RECEIVER`, or the exporter's name. */
  readonly source: string;
  /** A short, stable word: the job's name, and a label of `dead_letters_total`. */
  readonly reason: string;
  readonly detail: string;
  readonly event?: CeleryEvent;
  /** What was received, if it is not an event; or the id of a task. */
  readonly raw?: string;
  /** How a replay reads `raw`. Absent if `raw` is only a part of the input. */
  readonly readAs?: ReadAs | "id to process" | "id to forget";
  /** A job's payload that could not be read. It is kept whole, so that a newer release can read it, and can be as large as a batch. */
  readonly payload?: unknown;
  /** Whether a long text was cut, so that a replay would store less than was sent. */
  readonly cut?: boolean;
}

/** A letter read from Redis, where another release or other software may have written it. */
export type StoredLetter = { readonly [Field in keyof DeadLetter]?: unknown };

/** The source of what could not be decoded, and of events from the future. */
export const RECEIVER = "receiver";

/** Replaces text that redaction hides. It is a letter's `raw` if redaction keeps nothing of the input. */
export const REDACTED = "[redacted]";

/** The letter for input that the decoder rejected. */
export function letterOf({ reason, detail, raw, readAs, count }: Rejected): DeadLetter {
  const told = count > 1 ? `${detail} (${count} alike)` : detail;
  return { source: RECEIVER, reason, detail: told, raw, ...(readAs !== undefined && { readAs }) };
}

/** The receiver's reason for not passing on an event that it could decode: its timestamp is more than a day ahead. */
export const FUTURE = "future";

export const RECEIVER_REASONS = [...REJECT_REASONS, FUTURE];

/**
 * Why an exporter's host gives something up: the exporter refused it, or failed with every try; each process that ran it alone died; or the
 * payload of a job could not be read.
 */
export const EXPORTER_REASONS = ["refused", "failed", "crash", "payload"];

/** Future events of a batch that get a letter each. More would let one worker with a wrong clock push everything else out of the queue. */
const MAX_FUTURE_LETTERS = 100;

/**
 * Letters for events from the future. From the 101st on, one letter covers all of them: it contains the first one and cannot be replayed.
 */
export function lettersOfFuture(events: readonly CeleryEvent[]): DeadLetter[] {
  const letters = events.slice(0, MAX_FUTURE_LETTERS).map(futureLetter);
  const [next, ...others] = events.slice(MAX_FUTURE_LETTERS).map(futureLetter);
  if (next === undefined) return letters;
  return [...letters, others.length === 0 ? next : { ...next, detail: `${next.detail} (${others.length + 1} alike)`, cut: true }];
}

function futureLetter(event: CeleryEvent): DeadLetter {
  const sentAt = new Date(event.timestamp * 1_000).toISOString();
  const detail = `by the clock of ${event.hostname} it was sent at ${sentAt}: more than a day ahead of the receiver's`;
  return { source: RECEIVER, reason: FUTURE, detail, event };
}

// Shortens dead letters, so that 10,000 of them fit into Redis. Letters stay whole if possible, because only whole letters can be replayed.
// A job's payload is never cut, although it can hold a whole batch of some megabytes. Such letters are rare: payloads that this release
// cannot read are hardly ever written, and few payloads kill a process.

const MAX_DETAIL_CHARACTERS = 1_024;
/**
 * Size, as JSON, up to which an event is kept whole. 10,000 such letters take at most 320 MiB of Redis. Celery's events have a kilobyte or
 * two.
 */
const MAX_EVENT_BYTES = 32_768;
/** Characters kept of each text of a longer event, and of `raw`. */
const MAX_TEXT_CHARACTERS = 4_096;

/** Cuts the long parts of a letter, and marks it as `cut` if a replay would need them. */
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

/** Cuts a text to so many characters, and appends its length if it was longer. Does not keep the rest in memory. */
export function cut(text: string, characters: number): string {
  return text.length <= characters ? text : `${copyOf(text.slice(0, characters))}… (${text.length} characters)`;
}

/** In V8, a substring keeps the whole string in memory unless it is copied. */
function copyOf(part: string): string {
  return Buffer.from(part).toString();
}
