/** What to do with a job that may have ended the process it ran in, such as by filling its memory. */

/**
 * After a kill every job that was active in the process stalls, the innocent ones too. So:
 *
 *   1. A job that stalled three times becomes a suspect, unread: reading it may be what kills. Each step of a suspect runs alone in its process
 *      if possible, and is noted on the job while it runs (`Solitude`).
 *   2. A suspect that was running alone when its process died is split, at once. Stalls mean nothing here, since other suspects stall too while
 *      they wait for their turn.
 *   3. A suspect of one event is given three chances, since kills have other causes (a deploy, the out-of-memory killer); then it is buried. One
 *      that kills even then can be neither read nor split: it is buried as it is.
 */
const CHANCES = 3;

export interface JobHistory {
  readonly suspect: boolean;
  /** How often the process died, or lost Redis, while it had the job. */
  readonly stalls: number;
  /** How often the process died while the job was running alone. */
  readonly deaths: number;
}

/** `run`; `suspect`, to be run as one; `bury` in the dead-letter queue, unread. */
export function judge({ suspect, stalls, deaths }: JobHistory): "run" | "suspect" | "bury" {
  if (!suspect) return stalls < CHANCES ? "run" : "suspect";
  return deaths > CHANCES ? "bury" : "run";
}

/**
 * What to do with a suspect once it is read: `run`; `split` into suspects; `bury` in the dead-letter queue.
 *
 * @param size number of events or ids.
 */
export function judgeSuspect(deaths: number, size: number): "run" | "split" | "bury" {
  if (size > 1) return deaths === 0 ? "run" : "split";
  return deaths < CHANCES ? "run" : "bury";
}

/** Two halves, the first the larger; a single item in one piece. */
export function halves<T>(items: readonly T[]): (readonly T[])[] {
  if (items.length < 2) return [items];
  const middle = Math.ceil(items.length / 2);
  return [items.slice(0, middle), items.slice(middle)];
}
