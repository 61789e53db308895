/**
 * Bounds the entry of a task with very many attempts: what was sent is forgotten, attempt by attempt, so that those that are kept are paired as
 * before.
 *
 * The latest attempts are kept, so that their events find their facts marked when they come again. Of the others the entry keeps one instant
 * for each worker, and one for all clients: an event that is new to the entry and not after it is taken for one that came again. Messages that
 * no attempt has used are kept too, thousands of them; what is forgotten beyond that is counted as unused.
 */
import type { Attempts } from "./attempts.ts";
import type { FinalFact, ReceivedFact, SentFact, StartedFact } from "../facts/fact.ts";
import type { Message } from "./messages.ts";
import { inOrder } from "../facts/order.ts";
import type { Run } from "./runs.ts";
import type { TaskEntry } from "../facts/task-entry.ts";

/** What an entry may lose. */
export interface Forgotten {
  readonly fields: readonly string[];
  /** Host (empty for all clients) and instant in base 36 in turn: what was reported until then is forgotten. */
  readonly until: readonly string[];
  /** How many events nothing was sent of. */
  readonly unused: number;
}

/** Fields that an entry may have before its task sends waits without having ended: about a thousand attempts. */
export const LONG_FIELDS = 3_072;

/**
 * Fields from which an entry takes nothing more but finals, and those only for a quarter more: what comes faster than it can be sent or forgotten
 * may not fill Redis, nor hold it up each time the entry is read.
 */
export const FULL_FIELDS = 32_768;

/** Attempts kept once they were sent. */
const KEPT = 512;

/** Messages kept of each kind that no attempt has used. */
const KEPT_UNUSED = 4_096;

/** Workers of which an entry knows until when it has forgotten them. */
const KEPT_HOSTS = 512;

export const NOTHING_TO_FORGET: Forgotten = { fields: [], until: [], unused: 0 };

export function isLong({ size }: TaskEntry): boolean {
  return size >= LONG_FIELDS;
}

/** A start and the ends of its runs, or an end without a start. */
interface Unit {
  readonly facts: (StartedFact | FinalFact)[];
  readonly message: Message;
  /** When it ended, as far as is known. */
  at: number;
}

export interface Work {
  readonly runs: readonly Run[];
  readonly attempts: Attempts;
  /** The facts that are about to be marked as sent. */
  readonly marks: readonly string[];
  /** How many starts among them are given up. */
  readonly unused: number;
}

export function toForget(entry: TaskEntry, { runs, attempts, marks, unused }: Work): Forgotten {
  const { sent, received, started } = entry.facts;
  const marked = new Set(marks);
  const units = unitsOf(started, runs, attempts);
  const done = units.filter(({ facts }) => facts.every((fact) => fact.sent || marked.has(fact.field))).sort((a, b) => a.at - b.at);
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
  for (const { host, at } of gone) raise(until, host, at);
  for (const { at } of goneSent) raise(until, "", at);
  return {
    fields: [...gone, ...goneSent].map(({ field }) => field).concat(oldest(entry.forgottenUntil, until)),
    until: [...until].flatMap(([host, at]) => [host, at.toString(36)]),
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

/** All but the latest. */
function earlier<F extends { readonly at: number; readonly field: string }>(facts: readonly F[]): readonly F[] {
  return facts.length <= KEPT_UNUSED ? [] : inOrder(facts).slice(0, -KEPT_UNUSED);
}

function raise(until: Map<string, number>, host: string, at: number): void {
  if (at > (until.get(host) ?? -1)) until.set(host, at);
}

/** The fields of the hosts to forget altogether: those that ended longest ago, beyond what is kept. */
function oldest(before: ReadonlyMap<string, number>, now: ReadonlyMap<string, number>): string[] {
  const others = [...before].filter(([host]) => !now.has(host));
  const tooMany = others.length + now.size - KEPT_HOSTS;
  if (tooMany <= 0) return [];
  return others
    .sort(([, a], [, b]) => a - b)
    .slice(0, tooMany)
    .map(([host]) => `w${host}`);
}
