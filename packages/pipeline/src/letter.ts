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
  /** A job's payload that could not be read: kept whole, so that a newer release can be given it. */
  readonly payload?: unknown;
  /** Set where a long text was cut in here, so that a replay would store less than was sent. */
  readonly cut?: boolean;
}

/** The source of what could not be decoded. */
export const RECEIVER = "receiver";

/** In place of text that redaction hides; a letter's `raw` where redaction keeps nothing of the input. */
export const REDACTED = "[redacted]";

/** What the decoder rejected, as a letter. */
export function letterOf({ reason, detail, raw, readAs, count }: Rejected): DeadLetter {
  const told = count > 1 ? `${detail} (${count} alike)` : detail;
  return { source: RECEIVER, reason, detail: told, raw, ...(readAs !== undefined && { readAs }) };
}
