/** A dead letter: what could not be decoded or exported, and why. */
import type { CeleryEvent, ReadAs, Rejected } from "@celery-metrics-exporter/events";

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
