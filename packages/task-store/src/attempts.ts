/**
 * Which attempt a start or a final belongs to: its name, its queue, and how long it waited before it started.
 *
 * Neither `task-started` nor a final names its attempt, so it is matched. A start belongs to the latest `task-received` of the same worker that
 * is not after it. That one belongs to a `task-sent` with the same retries and the same name: where there are as many of those as of such
 * `task-received`, to the one at the same place in order; else to the latest not after the start, else (clocks differ) to the earliest. Where
 * the `task-received` was lost, the `task-sent` is chosen among all of them.
 *
 * A `task-received` has a shadow name where the task has one, so without a `task-sent` of its own name it takes one of another name, unless
 * that name was received too: then the `task-sent` belongs to a task that was replaced.
 *
 *   wait = start − max(sent, eta)         basis `sent`
 *   wait = start − max(received, eta)     basis `received`, where there is no `task-sent` (celery beat, or the setting is off)
 *
 * A wait below 0 (clocks differ) counts as 0.
 */
import type { FinalFact, ReceivedFact, SentFact, StartedFact } from "./fact.ts";
import { groupBy } from "./group-by.ts";
import type { TaskEntry } from "./task-entry.ts";

/** What an attempt is counted under. */
export interface Labels {
  /** Undefined where no event had it. */
  readonly name: string | undefined;
  readonly queue: string | undefined;
}

/** One attempt's wait. */
export interface Wait extends Labels {
  readonly seconds: number;
  /** Which event the wait is counted from. */
  readonly basis: "sent" | "received";
  /** Whether the clocks of client and worker made it negative. */
  readonly skewed: boolean;
  /** Seconds since the epoch, by the worker's clock. */
  readonly startedAt: number;
  readonly worker: string | undefined;
}

/** One attempt, as far as it is known. */
export interface Attempt extends Labels {
  readonly received: ReceivedFact | undefined;
  readonly sent: SentFact | undefined;
  /** Whether a filter excludes it. */
  readonly excluded: boolean;
}

const NO_PAIRS: ReadonlyMap<ReceivedFact, SentFact> = new Map();

/** The attempts of one task. */
export class Attempts {
  readonly #texts: ReadonlyMap<string, string>;
  readonly #sent: readonly SentFact[];
  readonly #received: readonly ReceivedFact[];
  /** A run's start is asked for twice: by its wait and by its completion. */
  readonly #ofStarts = new Map<StartedFact, Attempt>();
  #pairs: ReadonlyMap<ReceivedFact, SentFact> | undefined;
  #receivedNames: ReadonlySet<string> | undefined;

  constructor({ texts, facts }: TaskEntry) {
    this.#texts = texts;
    this.#sent = inOrder(facts.sent);
    this.#received = inOrder(facts.received);
  }

  ofStart(start: StartedFact): Attempt {
    let attempt = this.#ofStarts.get(start);
    if (attempt === undefined) {
      attempt = this.#attemptOf(start.host, start.at);
      this.#ofStarts.set(start, attempt);
    }
    return attempt;
  }

  /** @param start of the run that this final ended, where it is known. A task that was revoked before it started again has an earlier one. */
  ofFinal(final: FinalFact, start: StartedFact | undefined): Attempt {
    if (start === undefined) return this.#attemptOf(final.host, final.at);
    if (hasRun(final) || final.terminated) return this.ofStart(start);
    const received = this.#receivedBy(final.host, final.at);
    return received === undefined || received.at <= start.at ? this.ofStart(start) : this.#attemptOf(final.host, final.at);
  }

  /** The wait before this start; undefined where neither its `task-sent` nor its `task-received` is known. */
  waitBefore(start: StartedFact): Wait | undefined {
    const { sent, received, name, queue } = this.ofStart(start);
    const origin = sent ?? received;
    if (origin === undefined) return undefined;
    const microseconds = start.at - Math.max(origin.at, origin.eta ?? 0);
    return {
      name,
      queue,
      seconds: Math.max(microseconds, 0) / 1e6,
      basis: sent === undefined ? "received" : "sent",
      skewed: microseconds < 0,
      startedAt: start.at / 1e6,
      worker: start.worker,
    };
  }

  /**
   * The attempt that a worker had at an instant. Without a `task-sent` of its own it is taken to be in the queue of the one before it, if that
   * has the same name: Celery sends a retry to the queue it came from unless told otherwise.
   */
  #attemptOf(host: string, at: number): Attempt {
    const received = this.#receivedBy(host, at);
    const sent = this.#sentFor(received, at);
    const described = received ?? latestNotAfter(this.#received, at, anyOne) ?? this.#received[0];
    const routed = sent ?? (received && latestNotAfter(this.#sent, at, ({ name }) => name === received.name));
    return {
      received,
      sent,
      name: this.#text(sent?.name) ?? this.#text(described?.name) ?? this.#anyName(),
      queue: this.#text(routed?.queue),
      excluded: routed?.excluded === true || received?.excluded === true,
    };
  }

  #receivedBy(host: string, at: number): ReceivedFact | undefined {
    return latestNotAfter(this.#received, at, (received) => received.host === host);
  }

  #sentFor(received: ReceivedFact | undefined, at: number): SentFact | undefined {
    if (this.#sent.length === 0) return undefined;
    if (received === undefined) return this.#nearest(at, anyOne);
    this.#pairs ??= pairs(this.#sent, this.#received);
    const paired = this.#pairs.get(received);
    if (paired !== undefined) return paired;
    return (
      this.#nearest(at, (sent) => sent.retries === received.retries && sent.name === received.name) ??
      this.#nearest(at, (sent) => sent.retries === received.retries && this.#mayShadow(sent, received))
    );
  }

  /** Whether the name received may be another one for the name sent. */
  #mayShadow(sent: SentFact, received: ReceivedFact): boolean {
    if (sent.name === "" || received.name === "") return true;
    this.#receivedNames ??= new Set(this.#received.map(({ name }) => name));
    return !this.#receivedNames.has(sent.name);
  }

  #nearest(at: number, fits: (sent: SentFact) => boolean): SentFact | undefined {
    return latestNotAfter(this.#sent, at, fits) ?? this.#sent.find(fits);
  }

  #anyName(): string | undefined {
    for (const { name } of [...this.#sent, ...this.#received]) if (name !== "") return this.#text(name);
    return undefined;
  }

  #text(key = ""): string | undefined {
    return key === "" ? undefined : this.#texts.get(key);
  }
}

/** Whether a final ends a run that has a run time. */
export function hasRun({ state }: FinalFact): boolean {
  return state === "SUCCESS" || state === "FAILURE";
}

/** Each `task-received` with its `task-sent`, where there are as many of the one as of the other with the same retries and name. */
function pairs(sent: readonly SentFact[], received: readonly ReceivedFact[]): ReadonlyMap<ReceivedFact, SentFact> {
  if (sent.length < 2 || received.length < 2) return NO_PAIRS;
  const paired = new Map<ReceivedFact, SentFact>();
  const sentByAttempt = groupBy(sent, attemptKey);
  for (const [key, messages] of groupBy(received, attemptKey)) {
    const own = sentByAttempt.get(key) ?? [];
    if (own.length !== messages.length) continue;
    for (const [index, one] of own.entries()) {
      const message = messages[index];
      if (message !== undefined) paired.set(message, one);
    }
  }
  return paired;
}

function attemptKey({ retries, name }: { readonly retries: number; readonly name: string }): string {
  return `${retries} ${name}`;
}

function anyOne(): boolean {
  return true;
}

interface Timed {
  readonly at: number;
  readonly field: string;
}

/** Sorted by instant. */
export function inOrder<F extends Timed>(facts: readonly F[]): readonly F[] {
  return facts.length < 2 ? facts : facts.toSorted(byInstant);
}

/** The latest fact that fits and is not after an instant, of facts in order. */
export function latestNotAfter<F extends Timed>(facts: readonly F[], at: number, fits: (fact: F) => boolean): F | undefined {
  for (let index = countNotAfter(facts, at) - 1; index >= 0; index -= 1) {
    const fact = facts[index];
    if (fact !== undefined && fits(fact)) return fact;
  }
  return undefined;
}

/** How many facts are not after an instant, of facts in order. */
export function countNotAfter(facts: readonly Timed[], at: number): number {
  let from = 0;
  let to = facts.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if ((facts[middle]?.at ?? 0) <= at) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** By instant; equal instants by field, so that the order of a set does not matter. */
export function byInstant(a: Timed, b: Timed): number {
  return a.at - b.at || (a.field < b.field ? -1 : a.field > b.field ? 1 : 0);
}
