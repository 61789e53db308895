/** What to do with a job that may have ended the process it ran in, such as by filling its memory. */

/**
 * After a kill every job that was active in the process stalls, the innocent ones too. So:
 *
 *   1. A job that stalled three times is a suspect: it is split, and its halves become jobs of their own. Each try of these runs alone in its
 *      process, and is noted on the job while it runs (`Solitude`).
 *   2. A suspect with such a note was running alone when its process died: it is split again, at once. Stalls mean nothing here, since other
 *      suspects stall too while they wait for their turn.
 *   3. A suspect of one event is given three chances, since kills have other causes (a deploy, the out-of-memory killer); then it is buried.
 */
const STALLS = 3;

/** `run`, beside other jobs; `alone`; `split` into suspects (a single item becomes one suspect); `bury` in the dead-letter queue. */
export type Verdict = "run" | "alone" | "split" | "bury";

export interface JobHistory {
  readonly suspect: boolean;
  /** How often the process died, or lost Redis, while it had the job. */
  readonly stalls: number;
  /** How often the process died while the job was running alone. */
  readonly deaths: number;
  /** Number of events or ids. */
  readonly size: number;
}

export function judge({ suspect, stalls, deaths, size }: JobHistory): Verdict {
  if (!suspect) return stalls < STALLS ? "run" : "split";
  if (size > 1) return deaths === 0 ? "alone" : "split";
  return deaths < STALLS ? "alone" : "bury";
}

/** Two halves, the first the larger; a single item in one piece. */
export function halves<T>(items: readonly T[]): (readonly T[])[] {
  if (items.length < 2) return [items];
  const middle = Math.ceil(items.length / 2);
  return [items.slice(0, middle), items.slice(middle)];
}
