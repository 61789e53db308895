/**
 * Bounds the entry of a task with very many attempts: facts are forgotten, but only once what follows from them was sent.
 *
 * Of what was sent the latest starts and finals are kept, so that events that come again find them marked; for the others the entry keeps one
 * instant per worker, and takes what is not after it for a repeat. Of `task-sent` and `task-received` the latest are kept, and as many more as
 * there are starts whose waits were not sent.
 */
import { inOrder } from "./attempts.ts";
import type { Facts, FinalFact, StartedFact } from "./fact.ts";

/** What an entry may lose. */
export interface Forgotten {
  readonly fields: readonly string[];
  /** Host and instant in base 36 in turn: what this host reported until then is forgotten. */
  readonly until: readonly string[];
}

/** Fields that an entry may have before its task sends waits without having ended: about a thousand attempts. */
export const LONG_FIELDS = 3_072;

/** Kept of each kind once it was sent. */
const KEPT = 512;

export const NOTHING_TO_FORGET: Forgotten = { fields: [], until: [] };

export function isLong({ sent, received, started, finals }: Facts): boolean {
  return sent.length + received.length + started.length + finals.length >= LONG_FIELDS;
}

/** @param marks the facts that are about to be marked as sent. */
export function toForget({ sent, received, started, finals }: Facts, marks: readonly string[]): Forgotten {
  if (Math.max(sent.length, received.length, started.length, finals.length) <= KEPT) return NOTHING_TO_FORGET;
  const marked = new Set(marks);
  const isSent = (fact: StartedFact | FinalFact): boolean => fact.sent || marked.has(fact.field);
  const reported = [...earlier(started.filter(isSent), KEPT), ...earlier(finals.filter(isSent), KEPT)];
  const waiting = started.length - started.filter(isSent).length;
  const fields = [...reported, ...earlier(sent, KEPT + waiting), ...earlier(received, KEPT + waiting)].map(({ field }) => field);
  const until = new Map<string, StartedFact | FinalFact>();
  for (const fact of reported) if (fact.at > (until.get(fact.host)?.at ?? -1)) until.set(fact.host, fact);
  return { fields, until: [...until].flatMap(([host, { at }]) => [host, at.toString(36)]) };
}

/** All but the latest. */
function earlier<F extends { readonly at: number; readonly field: string }>(facts: readonly F[], kept: number): readonly F[] {
  return facts.length <= kept ? [] : inOrder(facts).slice(0, facts.length - kept);
}
