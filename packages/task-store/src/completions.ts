/**
 * What the runs of a task (see `runs.ts`) came to.
 *
 * Of the finals of one run, a failure beats REJECTED (Celery 5.6 sends both for one rejection), a termination beats the exit that it brings
 * about, and any other end beats the termination. Of several the latest counts. A run one of whose finals was sent has been sent; its further
 * finals are repeats.
 *
 * run_time is the success's own `runtime`, or its end − its start where there is none; of a failure end − start, so none where the start is
 * not known or was never made (an unregistered task). Nothing else has a run_time.
 */
import { STATE_RANK } from "@celery-metrics-exporter/events";
import type { Attempts, Labels } from "./attempts.ts";
import type { FinalFact, FinalState, StartedFact } from "./fact.ts";
import { byInstant } from "./order.ts";
import { isExit, isTermination, type Run } from "./runs.ts";

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
  /** Whether it is a termination or rejection that another end may replace, which is not known (yet). */
  readonly lacksEnd: boolean;
  /** Whether a filter excludes the attempt. */
  readonly excluded: boolean;
  readonly worker: string | undefined;
  readonly exception: string | undefined;
}

export function isSent({ finals }: Run): boolean {
  return finals.some(({ sent }) => sent);
}

export function completionOf(run: Run, attempts: Attempts): Completion {
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
    lacksEnd: mayEndOtherwise && !isExit(final),
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
