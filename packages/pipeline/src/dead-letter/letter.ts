/** A dead letter: what could not be decoded or exported, and why. */
import type { CeleryEvent, ReadAs, Rejected } from "@celery-metrics-exporter/celery";

export interface DeadLetter {
  /** `RECEIVER`, or the exporter's name. */
  readonly source: string;
  /** A short, stable word: the job's name, and a label of `dead_letters_total`. */
  readonly reason: string;
  readonly detail: string;
  readonly event?: CeleryEvent;
  /** What was received, where it is no event; or the id of a task. */
  readonly raw?: string;
  /** What `raw` is, for a replay. Absent where it is only a part. */
  readonly readAs?: ReadAs | "id to process" | "id to forget";
  /** A job's payload that could not be read: kept whole, so that a newer release can be given it. As large as a batch. */
  readonly payload?: unknown;
  /** Set where a long text was cut in here, so that a replay would store less than was sent. */
  readonly cut?: boolean;
}

/** A letter as it comes out of Redis, where another release, or anybody, may have written it. */
export type StoredLetter = { readonly [Field in keyof DeadLetter]?: unknown };

/** The source of what could not be decoded, and of events from the future. */
export const RECEIVER = "receiver";

/** In place of text that redaction hides; a letter's `raw` where redaction keeps nothing of the input. */
export const REDACTED = "[redacted]";

/** What the decoder rejected, as a letter. */
export function letterOf({ reason, detail, raw, readAs, count }: Rejected): DeadLetter {
  const told = count > 1 ? `${detail} (${count} alike)` : detail;
  return { source: RECEIVER, reason, detail: told, raw, ...(readAs !== undefined && { readAs }) };
}

/** The receiver's reason for refusing an event that it could decode: its timestamp is more than a day ahead. */
export const FUTURE = "future";

/** So many events of a batch have a letter each; a worker whose clock is wrong would soon push everything else out of the queue. */
const MAX_FUTURE_LETTERS = 100;

/** Events from the future, as letters: from the 101st on one letter for all, which has the first of them and cannot be replayed. */
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

// Dead letters small enough to keep 10,000 of, and whole wherever that is possible: only what is whole can be replayed. A job's payload is never
// cut: it holds up to a whole batch, some megabytes. Such letters are rare: nobody writes payloads that this release cannot read, and few kill.

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
