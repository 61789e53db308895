/**
 * How long an attempt waited before it started.
 *
 * `task-started` tells neither its attempt nor its queue, so it is matched: it belongs to the latest `task-received` of the same worker not
 * after it, and that one's `retries` names its `task-sent`: the latest with these retries not after the start, else (clocks differ) the
 * earliest. Where the `task-received` was lost, the `task-sent` is chosen among all of them by the same rule.
 *
 *   wait = start − max(sent, eta)         basis `sent`
 *   wait = start − max(received, eta)     basis `received`, where there is no `task-sent` (celery beat, or the setting is off)
 *
 * A wait below 0 (clocks differ) counts as 0.
 */
import type { Facts, ReceivedFact, SentFact, StartedFact } from "./fact.ts";

/** One attempt's wait. */
export interface Wait {
  readonly seconds: number;
  /** Which event the wait is counted from. */
  readonly basis: "sent" | "received";
  /** Whether the clocks of client and worker made it negative. */
  readonly skewed: boolean;
  readonly worker: string | undefined;
}

/** The wait of the attempt that `start` began; undefined where neither its `task-sent` nor its `task-received` is known. */
export function waitBefore(start: StartedFact, facts: Facts): Wait | undefined {
  const received = latestNotAfter(
    facts.received.filter(({ host }) => host === start.host),
    start.at,
  );
  const sent = sentFor(start, received, facts.sent);
  const origin = sent ?? received;
  if (origin === undefined) return undefined;
  const microseconds = start.at - Math.max(origin.at, origin.eta ?? 0);
  return {
    seconds: Math.max(microseconds, 0) / 1e6,
    basis: sent === undefined ? "received" : "sent",
    skewed: microseconds < 0,
    worker: start.worker,
  };
}

function sentFor(start: StartedFact, received: ReceivedFact | undefined, all: readonly SentFact[]): SentFact | undefined {
  const candidates = received === undefined ? all : all.filter(({ retries }) => retries === received.retries);
  return latestNotAfter(candidates, start.at) ?? candidates.toSorted(byInstant)[0];
}

/** The latest of these facts that is not after an instant. */
export function latestNotAfter<F extends { readonly at: number; readonly field: string }>(facts: readonly F[], at: number): F | undefined {
  let latest: F | undefined;
  for (const fact of facts) if (fact.at <= at && (latest === undefined || byInstant(latest, fact) < 0)) latest = fact;
  return latest;
}

/** By instant; equal instants by field, so that the order of a set does not matter. */
export function byInstant(a: { readonly at: number; readonly field: string }, b: { readonly at: number; readonly field: string }): number {
  return a.at - b.at || (a.field < b.field ? -1 : a.field > b.field ? 1 : 0);
}
