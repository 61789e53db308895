/**
 * The runs of a task that came to an end, told from its finals.
 *
 * One run can send several finals: a hard time limit two `task-failed` 2 ms apart, a rejection in Celery 5.6 a `task-failed` and a
 * `task-rejected`. And a task can run more than once: redelivered after its worker was lost, or past Redis' visibility timeout. So finals
 * make up completions by these rules:
 *
 *   1. Finals of different workers are different completions.
 *   2. Finals of one worker are different completions where a `task-started` of that worker lies between them (after the one, not after
 *      the other); otherwise they are one.
 *   3. Of the finals of one completion, any other stands before REJECTED, and then the latest.
 *   4. A completion one of whose finals was sent has been sent; its further finals are repeats.
 *
 * run_time is the success's own `runtime`, or its end − its start where there is none; of a failure end − start, so none where the start is
 * not known or was never made (an unregistered task). The start is the worker's latest not after the end. Nothing else has a run_time.
 */
import { STATE_RANK } from "@celery-metrics-exporter/events";
import { byInstant, latestNotAfter } from "./attempts.ts";
import type { Facts, FinalFact, FinalState, StartedFact } from "./fact.ts";

/** A run that ended. */
export interface Completion {
  readonly state: FinalState;
  /** Seconds since the epoch, by the worker's clock. */
  readonly finishedAt: number;
  /** Seconds, where there is one. */
  readonly runTime: number | undefined;
  /** Whether it should have a start, but none is known (yet). */
  readonly lacksStart: boolean;
  readonly worker: string | undefined;
  readonly exception: string | undefined;
}

/** A completion with the finals it is made of. */
export interface CompletionGroup {
  readonly completion: Completion;
  readonly finals: readonly FinalFact[];
  readonly sent: boolean;
}

/** Groups a task's finals into completions, per worker in order of time. */
export function completionsOf({ finals, started }: Facts): CompletionGroup[] {
  const [only, ...others] = finals;
  if (only === undefined) return [];
  // Nearly every task.
  if (others.length === 0) return [groupOf([only], startsOn(only.host, started))];
  const groups: CompletionGroup[] = [];
  for (const [host, own] of finalsByHost(finals.toSorted(byInstant))) {
    const starts = startsOn(host, started);
    for (const run of splitRuns(own, starts)) groups.push(groupOf(run, starts));
  }
  return groups;
}

function groupOf(run: readonly FinalFact[], starts: readonly StartedFact[]): CompletionGroup {
  return { completion: completionOf(run, starts), finals: run, sent: run.some(({ sent }) => sent) };
}

function startsOn(host: string, started: readonly StartedFact[]): readonly StartedFact[] {
  return started.filter((start) => start.host === host);
}

function finalsByHost(finals: readonly FinalFact[]): Map<string, FinalFact[]> {
  const hosts = new Map<string, FinalFact[]>();
  for (const final of finals) {
    const others = hosts.get(final.host);
    if (others === undefined) hosts.set(final.host, [final]);
    else others.push(final);
  }
  return hosts;
}

function splitRuns(finals: readonly FinalFact[], starts: readonly StartedFact[]): FinalFact[][] {
  const runs: FinalFact[][] = [];
  let previous: FinalFact | undefined;
  for (const final of finals) {
    const after = previous?.at ?? Number.NEGATIVE_INFINITY;
    const begun = starts.some(({ at }) => at > after && at <= final.at);
    const run = runs.at(-1);
    if (run === undefined || begun) runs.push([final]);
    else run.push(final);
    previous = final;
  }
  return runs;
}

function completionOf(run: readonly FinalFact[], starts: readonly StartedFact[]): Completion {
  const final = run.reduce((best, other) => (byWeight(best, other) < 0 ? other : best));
  const start = latestNotAfter(starts, final.at);
  return {
    state: final.state,
    finishedAt: final.at / 1e6,
    runTime: runTimeOf(final, start),
    lacksStart: hasRun(final) && start === undefined,
    worker: final.worker,
    exception: final.exception,
  };
}

function runTimeOf(final: FinalFact, start: StartedFact | undefined): number | undefined {
  if (!hasRun(final)) return undefined;
  return final.runtime ?? (start === undefined ? undefined : (final.at - start.at) / 1e6);
}

function hasRun({ state }: FinalFact): boolean {
  return state === "SUCCESS" || state === "FAILURE";
}

function byWeight(a: FinalFact, b: FinalFact): number {
  return (
    Number(a.state !== "REJECTED") - Number(b.state !== "REJECTED") ||
    a.at - b.at ||
    STATE_RANK[a.state] - STATE_RANK[b.state] ||
    byInstant(a, b)
  );
}
