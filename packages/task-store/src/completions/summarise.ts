/**
 * What there is to send of a task, from its facts alone.
 *
 * A task sends nothing before it has a completion (below) that was not sent. With it go the waits of all its attempts that
 * were not sent (see `attempts.ts`): an attempt that is retried ends without a final. The wait of a run that goes on is sent with its end. Only
 * a task with very many attempts sends the waits of the past ones before it ends, so that its entry stays bounded (see `forget.ts`). Attempts
 * that a filter excludes count as sent.
 *
 * Events may still be on their way, in a batch that another process has or left behind when it was killed. So a summary says what it lacks:
 *
 *   name       no event had the task's name
 *   start      a completion that succeeded or failed has no start
 *   received   a start has no message of its own
 *   revocation a task failed because its process got a signal, and the `task-revoked` of a termination may come
 *   end        a task was terminated, and how its run ended may come: an exit, a failure, or that it succeeded all the same
 *   failure    a task was rejected, and the failure that led to this may come
 *   certainty  a final looks like a repeat of another one, but the start that would tell it from a further run may come
 *
 * The sender decides how long to wait. A missing `task-sent` is no lack: many tasks have none.
 */
import { type Attempt, Attempts, type Labels, type Wait } from "./attempts.ts";
import type { Facts, FinalFact, FinalState, StartedFact } from "../facts/fact.ts";
import { type Forgotten, NOTHING_TO_FORGET, isLong, toForget } from "./forget.ts";
import { isRetryOf } from "./messages.ts";
import { byInstant, inOrder } from "../facts/order.ts";
import { type Run, isExit, isTermination, pair } from "./runs.ts";
import type { TaskEntry } from "../facts/task-entry.ts";
import { STATE_RANK } from "@celery-metrics-exporter/celery";

export type Lack = "name" | "start" | "received" | "revocation" | "end" | "failure" | "certainty";

/** What sending a summary changes in the task's entry. */
export interface Settlement {
  /** The fields to mark as sent: identities, so that what arrives meanwhile stays unsent. */
  readonly fields: readonly string[];
  readonly forgotten: Forgotten;
}

/** What to send of a task, and what is to be noted once it was sent. */
export interface Summary extends Settlement {
  readonly completions: readonly Completion[];
  readonly waits: readonly Wait[];
  /** The first thing that is missing, if any. */
  readonly lacks: Lack | undefined;
}

/** The latest starts of a long task that has not ended wait for its end: events of theirs may still come. */
const KEPT_STARTS = 256;

/** So many starts of a long task that has not ended wait for their `task-sent` or `task-received`. */
const KEPT_UNKNOWN = 4_096;

export function summarise(entry: TaskEntry): Summary {
  const { facts } = entry;
  const { runs, messages } = pair(facts);
  const attempts = new Attempts(entry, messages);
  const completions: Completion[] = [];
  const fields: string[] = [];
  let isUncertain = false;
  let ended = false;
  for (const run of runs) {
    const { finals, isDoubtful } = run;
    const wasSent = isSent(run);
    if (wasSent && finals.every(({ sent }) => sent)) continue;
    if (wasSent || isDoubtful) isUncertain = true;
    for (const { field } of finals) fields.push(field);
    if (wasSent) continue;
    ended = true;
    const completion = completionOf(run, attempts);
    if (!completion.excluded) completions.push(completion);
  }
  const certain = isUncertain ? "certainty" : undefined;
  const isTooLong = isLong(entry);
  if (!ended && !isTooLong) return { completions, waits: [], lacks: certain, fields, forgotten: NOTHING_TO_FORGET };

  const starts = unsentStarts(facts, runs, attempts);
  const { waits, unknown, lacksMessage } = waitsOf(ended ? starts : starts.slice(0, -KEPT_STARTS), attempts, fields);
  const givenUp = ended ? unknown : unknown.slice(0, -KEPT_UNKNOWN);
  for (const { field } of givenUp) fields.push(field);
  const lacks = ended ? (lackOf(completions, lacksMessage) ?? certain) : certain;
  const forgotten = isTooLong ? toForget(entry, { runs, attempts, marks: fields, unused: ended ? 0 : givenUp.length }) : NOTHING_TO_FORGET;
  return { completions, waits, lacks, fields, forgotten };
}

/** @param fields get those of the starts whose waits are known. */
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
 * In order. Without those of a further run that goes on: a start later than every end belongs to it, unless something that came after it has
 * ended. (By the clock of a worker that is behind, a retry can end before its task first started.)
 */
function unsentStarts({ started, finals }: Facts, runs: readonly Run[], attempts: Attempts): readonly StartedFact[] {
  const unsent = inOrder(started.filter(({ sent }) => !sent));
  const last = unsent.at(-1);
  if (last === undefined || finals.length === 0) return unsent;
  let end = 0;
  for (const { at } of finals) if (at > end) end = at;
  if (last.at <= end) return unsent;
  const ended = runs.map((run) => attempts.ofRun(run));
  const sentLast = ended.reduce((latest, { sent }) => Math.max(latest, sent?.at ?? 0), end);
  return unsent.filter((start) => start.at <= sentLast || wasRetried(start, started, ended, attempts));
}

/** Whether a retry of it has ended. One of an earlier life is none: in that life an attempt of as many retries started too. */
function wasRetried(start: StartedFact, started: readonly StartedFact[], ended: readonly Attempt[], attempts: Attempts): boolean {
  const own = attempts.ofStart(start);
  const isOther = (other: Attempt): boolean => isRetryOf(other, own) || isRetryOf(own, other);
  return ended.some((attempt) => isRetryOf(attempt, own)) && started.every((other) => other === start || isOther(attempts.ofStart(other)));
}

// What the runs of a task (see `runs.ts`) came to.
//
// Of the finals of one run, a failure beats REJECTED (Celery 5.6 sends both for one rejection), a termination beats the exit that it brings
// about, and any other end beats the termination. Of several the latest counts. A run one of whose finals was sent has been sent; its further
// finals are repeats.
//
// run_time is the success's own `runtime`, or its end − its start where there is none; of a failure end − start, so none where the start is
// not known or was never made (an unregistered task). Nothing else has a run_time.

/** A run that ended. */
export interface Completion extends Labels {
  readonly state: FinalState;
  /** Seconds since the epoch, by the worker's clock. */
  readonly finishedAt: number;
  /** Seconds, where there is one. */
  readonly runTime: number | undefined;
  /** Whether it should have a start, or a message if it never began, but none is known (yet). */
  readonly lacksStart: boolean;
  /** Whether it is the failure of a termination whose `task-revoked` is not known (yet). */
  readonly lacksRevocation: boolean;
  /** Whether it is a termination that another end may replace, which is not known (yet). */
  readonly lacksEnd: boolean;
  /** Whether it is a rejection that a failure may replace, which is not known (yet). */
  readonly lacksFailure: boolean;
  /** Whether a filter excludes the attempt. */
  readonly excluded: boolean;
  readonly worker: string | undefined;
  readonly exception: string | undefined;
}

function isSent({ finals }: Run): boolean {
  return finals.some(({ sent }) => sent);
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
