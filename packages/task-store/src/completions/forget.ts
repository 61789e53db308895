/**
 * Bounds the entry of a task with very many attempts. It forgets reported attempts as a whole, so that the remaining ones are still paired
 * as before.
 *
 * The latest attempts are kept, so that repeated events find their facts marked. For the others the entry keeps one instant per worker, and
 * one for all clients: an event that is new to the entry and not after this instant counts as a repeat. Thousands of messages that no
 * attempt has used are kept too. Those forgotten beyond that are counted as unused.
 */
import type { Attempts } from "./attempts.ts";
import type { FinalFact, ReceivedFact, RepeatFact, SentFact, StartedFact } from "../facts/fact.ts";
import type { Message } from "./messages.ts";
import { inOrder } from "../facts/order.ts";
import type { Run } from "./runs.ts";
import type { TaskEntry } from "../facts/task-entry.ts";

/** What to remove from an entry. */
export interface Forgotten {
  readonly fields: readonly string[];
  /** Alternating hostnames (empty for all clients) and instants in base 36: events up to that instant are forgotten. */
  readonly until: readonly string[];
  /** How many events are given up without having been used for a metric. */
  readonly unused: number;
}

/** Number of fields (about a thousand attempts) from which a task's waits are reported before it has ended. */
export const LONG_FIELDS = 3_072;

/**
 * Number of fields from which an entry accepts only finals, and those only up to a quarter more. Events that arrive faster than they can be
 * reported or forgotten must not fill Redis, or block it each time the entry is read.
 */
export const FULL_FIELDS = 32_768;

/** Reported attempts that an entry keeps. */
const KEPT = 512;

/** An entry with fewer fields has never been long, because what it forgets leaves more than these. So it has forgotten nothing. */
export const FEW_FIELDS = 64;

/** Messages of each kind (sent, received) that an entry keeps although no attempt has used them. */
const KEPT_UNUSED = 4_096;

/** Workers for which an entry keeps the instant up to which it has forgotten their events. */
const KEPT_HOSTNAMES = 512;

export const NOTHING_TO_FORGET: Forgotten = { fields: [], until: [], unused: 0 };

export function isLong({ size }: TaskEntry): boolean {
  return size >= LONG_FIELDS;
}

/** A start and the ends of its runs, or an end without a start. */
interface Unit {
  readonly facts: (StartedFact | FinalFact)[];
  readonly message: Message;
  /** When it ended, or started if no end is known. */
  at: number;
}

export interface Work {
  readonly runs: readonly Run[];
  readonly attempts: Attempts;
  /** The facts about to be marked as reported. */
  readonly marks: readonly string[];
  /** How many of them are starts given up without a wait. */
  readonly unused: number;
}

export function toForget(entry: TaskEntry, { runs, attempts, marks, unused }: Work): Forgotten {
  const { sent, received, started, repeats } = entry.facts;
  const marked = new Set(marks);
  const units = unitsOf(started, runs, attempts);
  const done = units.filter(({ facts }) => facts.every((fact) => fact.reported || marked.has(fact.field))).sort((a, b) => a.at - b.at);
  const past = new Set(done.slice(0, -KEPT));
  const kept = units.filter((unit) => !past.has(unit));
  const needed = messagesOf(kept);
  const used = messagesOf(units);

  const gone: (StartedFact | FinalFact | ReceivedFact)[] = [...past].flatMap(({ facts }) => facts);
  const goneSent = sent.filter((fact) => used.has(fact) && !needed.has(fact));
  gone.push(...received.filter((fact) => used.has(fact) && !needed.has(fact)));
  const unusedSent = earlier(sent.filter((fact) => !used.has(fact)));
  const unusedReceived = earlier(received.filter((fact) => !used.has(fact)));
  gone.push(...unusedReceived);
  goneSent.push(...unusedSent);

  const until = new Map<string, number>();
  for (const { hostname, at } of gone) raise(until, hostname, at);
  for (const { at } of goneSent) raise(until, "", at);
  const isGone = ({ hostname, at }: RepeatFact): boolean => at <= (until.get(hostname) ?? -1);
  const goneRepeats = repeats.filter((repeat) => isGone(repeat) && (repeat.reported || marked.has(repeat.field)));
  return {
    fields: [...gone, ...goneSent, ...goneRepeats].map(({ field }) => field).concat(oldest(entry.forgottenUntil, until)),
    until: [...until].flatMap(([hostname, at]) => [hostname, at.toString(36)]),
    unused: unused + unusedSent.length + unusedReceived.length,
  };
}

function unitsOf(started: readonly StartedFact[], runs: readonly Run[], attempts: Attempts): readonly Unit[] {
  const units = new Map<StartedFact | FinalFact, Unit>();
  for (const start of started) units.set(start, { facts: [start], message: attempts.ofStart(start), at: start.at });
  for (const run of runs) {
    const unit = run.start && units.get(run.start);
    const at = Math.max(unit?.at ?? 0, ...run.finals.map((final) => final.at));
    if (unit === undefined) units.set(run.finals[0], { facts: [...run.finals], message: attempts.ofRun(run), at });
    else {
      unit.facts.push(...run.finals);
      unit.at = at;
    }
  }
  return [...units.values()];
}

function messagesOf(units: readonly Unit[]): ReadonlySet<SentFact | ReceivedFact | undefined> {
  return new Set(units.flatMap(({ message }) => [message.sent, message.received]));
}

/** All but the latest `KEPT_UNUSED`. */
function earlier<F extends { readonly at: number; readonly field: string }>(facts: readonly F[]): readonly F[] {
  return facts.length <= KEPT_UNUSED ? [] : inOrder(facts).slice(0, -KEPT_UNUSED);
}

function raise(until: Map<string, number>, hostname: string, at: number): void {
  if (at > (until.get(hostname) ?? -1)) until.set(hostname, at);
}

/** The fields of the hostnames to forget entirely: beyond `KEPT_HOSTNAMES`, those with the oldest instants. */
function oldest(before: ReadonlyMap<string, number>, now: ReadonlyMap<string, number>): string[] {
  const others = [...before].filter(([hostname]) => !now.has(hostname));
  const tooMany = others.length + now.size - KEPT_HOSTNAMES;
  if (tooMany <= 0) return [];
  return others
    .sort(([, a], [, b]) => a - b)
    .slice(0, tooMany)
    .map(([hostname]) => `w${hostname}`);
}
