/**
 * What to report of a task, from its facts alone.
 *
 * Nothing is reported of a task until it has an unreported completion (see below). The completion is reported together with the unreported
 * waits of all the task's attempts (see `attempts.ts`), because an attempt that is retried ends without a final. The wait of a run that is
 * still going on is reported with its end. Only for a task with very many attempts are past waits reported before it ends, so that its
 * entry stays bounded (see `forget.ts`). Attempts that a filter excludes count as reported.
 *
 * Retries are reported without waiting for a completion: a task may be retried for hours.
 *
 * Events may still be on their way, in a batch that another process holds, or that it left behind when it was killed. So a summary states
 * what it lacks:
 *
 *   name       no event carried the task's name
 *   start      a success, failure or retry has no start
 *   received   a start has no message of its own
 *   revocation a task failed because its process got a signal, and the `task-revoked` of a termination may still come
 *   end        a task was terminated, and the end of its run may still come: an exit, a failure, or even a success
 *   failure    a task was rejected, and the failure that caused this may still come
 *   certainty  a final looks like a repeat of another one, but a start that shows it to be another run may still come
 *
 * The caller decides how long to wait. Most tasks never have what the last four lines mean. A missing `task-sent` is not a lack: many tasks
 * have none.
 */
import { type Attempt, Attempts, type Labels, type Wait } from "./attempts.ts";
import type { Facts, FinalFact, FinalState, StartedFact } from "../facts/fact.ts";
import { FEW_FIELDS, type Forgotten, NOTHING_TO_FORGET, isLong, toForget } from "./forget.ts";
import { isRetryOf } from "./messages.ts";
import { byInstant, inOrder } from "../facts/order.ts";
import { type Run, isExit, isTermination, pair } from "./runs.ts";
import type { TaskEntry } from "../facts/task-entry.ts";
import { STATE_RANK } from "@celery-metrics-exporter/celery";

/** What every task has: if it is still lacking when the task is reported, an event was lost or is very late. */
export const MISSING = ["name", "start", "received"] as const;
export type Missing = (typeof MISSING)[number];

/** What only some tasks have: most often it never comes, and nothing is missing then. */
const POSSIBLE = ["revocation", "end", "failure", "certainty"] as const;

export const LACKS = [...MISSING, ...POSSIBLE] as const;
export type Lack = (typeof LACKS)[number];

/** What is missing from a task that is reported now, if anything. */
export function missingFrom({ lacks }: Summary): Missing | undefined {
  return MISSING.find((missing) => missing === lacks);
}

/** What changes in the task's entry once a summary was reported. */
export interface Settlement {
  /** The fields to mark as reported. They name facts, so a fact that arrives meanwhile stays unreported. */
  readonly fields: readonly string[];
  readonly forgotten: Forgotten;
  /** The number of the entry's fields, if these are all its facts that can be reported (see `settle.ts`). */
  readonly lastOf?: number | undefined;
}

/** What to report of a task, and what to change in its entry afterwards. */
export interface Summary extends Settlement {
  readonly completions: readonly Completion[];
  readonly waits: readonly Wait[];
  readonly retries: readonly Retry[];
  /** The first thing that is missing, if any. */
  readonly lacks: Lack | undefined;
}

/** An attempt that ended with `task-retried`. */
export interface Retry extends Labels {
  /** Seconds since the epoch, by the worker's clock. */
  readonly retriedAt: number;
  readonly worker: string | undefined;
}

/** Latest starts of a long task whose waits are not reported before it ends: more of their events may still come. */
const KEPT_STARTS = 256;

/** Starts of a long task that are kept, before it ends, until their `task-sent` or `task-received` comes. */
const KEPT_UNKNOWN = 4_096;

export function summarise(entry: TaskEntry): Summary {
  const { facts } = entry;
  const { runs, messages } = pair(facts);
  const attempts = new Attempts(entry, messages);
  const completions: Completion[] = [];
  const { retries, fields, lacks: retriesLack } = unreportedRetries(facts, attempts);
  let isUncertain = false;
  let ended = false;
  for (const run of runs) {
    const { finals, isDoubtful } = run;
    const wasSent = isReported(run);
    if (wasSent && finals.every(({ reported }) => reported)) continue;
    if (wasSent || isDoubtful) isUncertain = true;
    for (const { field } of finals) fields.push(field);
    if (wasSent) continue;
    ended = true;
    const completion = completionOf(run, attempts);
    if (!completion.excluded) completions.push(completion);
  }
  const certain = isUncertain ? "certainty" : undefined;
  const isTooLong = isLong(entry);
  if (!ended && !isTooLong) return { completions, waits: [], retries, lacks: retriesLack ?? certain, fields, forgotten: NOTHING_TO_FORGET };

  const starts = unreportedStarts(facts, runs, attempts);
  const { waits, unknown, lacksMessage } = waitsOf(ended ? starts : starts.slice(0, -KEPT_STARTS), attempts, fields);
  const givenUp = ended ? unknown : unknown.slice(0, -KEPT_UNKNOWN);
  for (const { field } of givenUp) fields.push(field);
  const lacks = (ended ? lackOf(completions, lacksMessage) : undefined) ?? retriesLack ?? certain;
  const forgotten = isTooLong ? toForget(entry, { runs, attempts, marks: fields, unused: ended ? 0 : givenUp.length }) : NOTHING_TO_FORGET;
  return { completions, waits, retries, lacks, fields, forgotten, lastOf: areAll(fields, entry) ? entry.size : undefined };
}

/** Whether these are all facts that can be reported. */
function areAll(marks: readonly string[], { size, facts: { finals, started, repeats } }: TaskEntry): boolean {
  return size < FEW_FIELDS && marks.length === finals.length + started.length + repeats.length;
}

/** What to report of a task's retries alone. */
export function summariseRetries(entry: TaskEntry): Summary {
  const attempts = new Attempts(entry, pair(entry.facts).messages);
  return { completions: [], waits: [], ...unreportedRetries(entry.facts, attempts), forgotten: NOTHING_TO_FORGET };
}

function unreportedRetries({ repeats }: Facts, attempts: Attempts): { retries: Retry[]; fields: string[]; lacks: Missing | undefined } {
  const retries: Retry[] = [];
  const fields: string[] = [];
  const missing = new Set<Missing>();
  for (const repeat of inOrder(repeats.filter(({ reported }) => !reported))) {
    fields.push(repeat.field);
    const { name, queue, excluded } = attempts.ofRepeat(repeat);
    if (excluded) continue;
    const start = attempts.startOf(repeat);
    if (name === undefined) missing.add("name");
    if (start === undefined) missing.add("start");
    else if (attempts.lacksMessage(start)) missing.add("received");
    retries.push({ name, queue, retriedAt: repeat.at / 1e6, worker: repeat.worker });
  }
  return { retries, fields, lacks: MISSING.find((each) => missing.has(each)) };
}

/** @param fields receives the fields of the starts whose waits are known. */
function waitsOf(
  starts: readonly StartedFact[],
  attempts: Attempts,
  fields: string[],
): { readonly waits: Wait[]; readonly unknown: StartedFact[]; readonly lacksMessage: boolean } {
  const waits: Wait[] = [];
  const unknown: StartedFact[] = [];
  let lacksMessage = false;
  for (const start of starts) {
    const wait = attempts.waitBefore(start);
    if (attempts.lacksMessage(start)) lacksMessage = true;
    if (wait === undefined) {
      unknown.push(start);
      continue;
    }
    if (!attempts.ofStart(start).excluded) waits.push(wait);
    fields.push(start.field);
  }
  return { waits, unknown, lacksMessage };
}

function lackOf(completions: readonly Completion[], lacksMessage: boolean): Lack | undefined {
  if (completions.some(({ name }) => name === undefined)) return "name";
  if (completions.some(({ lacksStart }) => lacksStart)) return "start";
  if (lacksMessage) return "received";
  if (completions.some(({ lacksRevocation }) => lacksRevocation)) return "revocation";
  if (completions.some(({ lacksEnd }) => lacksEnd)) return "end";
  return completions.some(({ lacksFailure }) => lacksFailure) ? "failure" : undefined;
}

/**
 * The unreported starts in order, except those of a further run that is still going on. A start later than every end belongs to such a run,
 * unless an attempt that came after it has ended. (If a worker's clock is behind, a retry there can end before the task's first start.)
 */
function unreportedStarts({ started, finals }: Facts, runs: readonly Run[], attempts: Attempts): readonly StartedFact[] {
  const unsent = inOrder(started.filter(({ reported }) => !reported));
  const last = unsent.at(-1);
  if (last === undefined || finals.length === 0) return unsent;
  let end = 0;
  for (const { at } of finals) if (at > end) end = at;
  if (last.at <= end) return unsent;
  const ended = runs.map((run) => attempts.ofRun(run));
  const sentLast = ended.reduce((latest, { sent }) => Math.max(latest, sent?.at ?? 0), end);
  return unsent.filter((start) => start.at <= sentLast || wasRetried(start, started, ended, attempts));
}

/**
 * Whether a retry of it has ended. A retry from an earlier life of the id does not count: that life has a start with the same retries too.
 */
function wasRetried(start: StartedFact, started: readonly StartedFact[], ended: readonly Attempt[], attempts: Attempts): boolean {
  const own = attempts.ofStart(start);
  const isOther = (other: Attempt): boolean => isRetryOf(other, own) || isRetryOf(own, other);
  return ended.some((attempt) => isRetryOf(attempt, own)) && started.every((other) => other === start || isOther(attempts.ofStart(other)));
}

// The completions of a task: one for each of its runs (see `runs.ts`).
//
// Among the finals of one run, a failure beats REJECTED (Celery 5.6 sends both for one rejection), a termination beats the exit it causes,
// and any other end beats the termination. Among equals the latest counts. If one final of a run was reported, the run was reported; its
// other finals are repeats.
//
// The run time of a success is its own `runtime`, or end − start if it has none. The run time of a failure is end − start, so it has none
// if the start is not known or never happened (an unregistered task). Other states have no run time.

export interface Completion extends Labels {
  readonly state: FinalState;
  /** Seconds since the epoch, by the worker's clock. */
  readonly finishedAt: number;
  /** Seconds. */
  readonly runTime: number | undefined;
  /** Whether it should have a start (or a message, if it never began) that is not known yet. */
  readonly lacksStart: boolean;
  /** Whether it is the failure of a termination whose `task-revoked` may still come. */
  readonly lacksRevocation: boolean;
  /** Whether it is a termination that another end may still replace. */
  readonly lacksEnd: boolean;
  /** Whether it is a rejection that a failure may still replace. */
  readonly lacksFailure: boolean;
  /** Whether a filter excludes the attempt. */
  readonly excluded: boolean;
  readonly worker: string | undefined;
  readonly exception: string | undefined;
}

function isReported({ finals }: Run): boolean {
  return finals.some(({ reported }) => reported);
}

function completionOf(run: Run, attempts: Attempts): Completion {
  const { start, finals, mayEndOtherwise } = run;
  const final = decisive(finals);
  const { name, queue, excluded } = attempts.ofRun(run);
  return {
    name,
    queue,
    state: final.state,
    finishedAt: final.at / 1e6,
    runTime: runTimeOf(final, start),
    lacksStart: hasRunTime(final) && start === undefined && (!final.unbegun || attempts.lacksMessage(final)),
    lacksRevocation: mayEndOtherwise && isExit(final),
    lacksEnd: mayEndOtherwise && isTermination(final),
    lacksFailure: mayEndOtherwise && final.state === "REJECTED",
    excluded,
    worker: final.worker,
    exception: final.exception,
  };
}

function decisive(finals: readonly [FinalFact, ...FinalFact[]]): FinalFact {
  if (finals.length === 1) return finals[0];
  return finals.reduce((best, other) => (byWeight(best, other) < 0 ? other : best));
}

function byWeight(a: FinalFact, b: FinalFact): number {
  return weight(a) - weight(b) || a.at - b.at || STATE_RANK[a.state] - STATE_RANK[b.state] || byInstant(a, b);
}

function weight(final: FinalFact): number {
  if (final.state === "REJECTED") return 0;
  if (isExit(final)) return 1;
  return isTermination(final) ? 2 : 3;
}

function hasRunTime({ state }: FinalFact): boolean {
  return state === "SUCCESS" || state === "FAILURE";
}

function runTimeOf(final: FinalFact, start: StartedFact | undefined): number | undefined {
  if (!hasRunTime(final)) return undefined;
  return final.runtime ?? (start === undefined ? undefined : (final.at - start.at) / 1e6);
}
