/**
 * The runs of a task that came to an end, worked out from its finals.
 *
 * One run can send several finals: a hard time limit two `task-failed` 2 ms apart, a rejection in Celery 5.6 a `task-failed` and a
 * `task-rejected`, a termination a `task-revoked` and a `task-failed`. And a task can run more than once: redelivered after its worker was
 * lost, or past Redis' visibility timeout. So finals make up completions by these rules:
 *
 *   1. Finals of different workers are different completions.
 *   2. Finals of one worker are different completions where a `task-started` of that worker lies between them (after the one, not after
 *      the other). Otherwise they are one, unless runs overlapped on that worker: each success is a completion of its own, and failures and
 *      rejections beside successes are one more, as far as there are starts for them. (Celery repeats failures and rejections, never
 *      successes.)
 *   3. Of the finals of one completion, any other beats REJECTED, a termination's revocation beats its failure, and then the latest wins.
 *   4. A completion one of whose finals was sent has been sent; its further finals are repeats.
 *
 * run_time is the success's own `runtime`, or its end − its start where there is none; of a failure end − start, so none where the start is
 * not known or was never made (an unregistered task). Nothing else has a run_time. The start is the worker's latest not after the end; of runs
 * that overlapped, the one nearest to when the success says it began, and for the others the latest that is left.
 */
import { STATE_RANK } from "@celery-metrics-exporter/events";
import { byInstant, countNotAfter, hasRun, inOrder, latestNotAfter, type Attempts, type Labels } from "./attempts.ts";
import { groupBy } from "./group-by.ts";
import type { Facts, FinalFact, FinalState, StartedFact } from "./fact.ts";

/** A run that ended. */
export interface Completion extends Labels {
  readonly state: FinalState;
  /** Seconds since the epoch, by the worker's clock. */
  readonly finishedAt: number;
  /** Seconds, where there is one. */
  readonly runTime: number | undefined;
  /** Whether it should have a start, but none is known (yet). */
  readonly lacksStart: boolean;
  /** Whether it is the failure of a termination whose `task-revoked` is not known (yet). */
  readonly lacksRevocation: boolean;
  /** Whether a filter excludes the attempt. */
  readonly excluded: boolean;
  readonly worker: string | undefined;
  readonly exception: string | undefined;
}

/** A completion with the finals it is made of. */
export interface CompletionGroup {
  readonly completion: Completion;
  readonly finals: readonly FinalFact[];
  readonly sent: boolean;
}

/** The finals of one run. */
interface Run {
  readonly finals: readonly FinalFact[];
  /** The starts it may have had, in order. */
  readonly starts: readonly StartedFact[];
  /** Whether it has successes of several runs, for lack of starts. */
  readonly lacksStart: boolean;
}

/** Groups a task's finals into completions, per worker in order of time. */
export function completionsOf({ finals, started }: Facts, attempts: Attempts): CompletionGroup[] {
  const [only, ...others] = finals;
  if (only === undefined) return [];
  // Nearly every task.
  if (others.length === 0) {
    const starts = inOrder(started.filter(({ host }) => host === only.host));
    return [groupOf({ finals: [only], starts, lacksStart: false }, attempts)];
  }
  const startsByHost = groupBy(inOrder(started), hostOf);
  const groups: CompletionGroup[] = [];
  for (const [host, own] of groupBy(inOrder(finals), hostOf)) {
    for (const run of runsOf(own, startsByHost.get(host) ?? [])) groups.push(groupOf(run, attempts));
  }
  return groups;
}

function hostOf({ host }: { readonly host: string }): string {
  return host;
}

/** The runs of one worker; both in order. */
function runsOf(finals: readonly FinalFact[], starts: readonly StartedFact[]): Run[] {
  const runs: Run[] = [];
  let begun = 0;
  let taken = 0;
  const end = (together: readonly FinalFact[]): void => {
    const ended = overlapping(together, starts, begun - taken);
    taken = Math.min(begun, taken + ended.length);
    runs.push(...ended);
  };
  let together: FinalFact[] = [];
  for (const final of finals) {
    const begunNow = countNotAfter(starts, final.at);
    if (together.length > 0 && begunNow > begun) {
      end(together);
      together = [];
    }
    together.push(final);
    begun = begunNow;
  }
  end(together);
  return runs;
}

/**
 * Tells runs apart that have no start between their ends.
 *
 * @param available starts that no run before them has taken.
 */
function overlapping(finals: readonly FinalFact[], starts: readonly StartedFact[], available: number): Run[] {
  const successes = finals.filter(({ state }) => state === "SUCCESS");
  const others = finals.filter(({ state }) => state !== "SUCCESS");
  const areMore = others.some(({ state }) => state === "FAILURE" || state === "REJECTED");
  const runs = successes.map((final) => [final]);
  if (areMore) runs.push(others);
  else runs.at(-1)?.push(...others);
  if (runs.length < 2 || available < 2) return [{ finals, starts, lacksStart: runs.length > 1 }];

  const last = Math.min(available, runs.length) - 1;
  const told = runs.slice(0, last);
  const rest = runs.slice(last);
  const left = [...starts];
  return [
    ...told.map((run): Run => ({ finals: run, starts: takeStart(run, left), lacksStart: false })),
    { finals: rest.flat(), starts: left, lacksStart: rest.length > 1 },
  ];
}

/** Takes the start nearest to when a run says it began from those that are left. */
function takeStart([final]: readonly FinalFact[], left: StartedFact[]): StartedFact[] {
  if (final === undefined) return [];
  const began = final.at - (final.runtime ?? 0) * 1e6;
  const next = countNotAfter(left, began);
  const [earlier, later] = [left[next - 1], left[next]];
  if (later !== undefined && later.at <= final.at && (earlier === undefined || later.at - began < began - earlier.at))
    return left.splice(next, 1);
  return earlier === undefined ? [] : left.splice(next - 1, 1);
}

function groupOf({ finals, starts, lacksStart }: Run, attempts: Attempts): CompletionGroup {
  const terminated = finals.find(({ state, terminated: isTerminated }) => state === "REVOKED" && isTerminated);
  const decisive = terminated === undefined ? finals : finals.filter((final) => !isTermination(final));
  const final = decisive.reduce((best, other) => (byWeight(best, other) < 0 ? other : best));
  const start = latestNotAfter(starts, final.at, () => true);
  const { name, queue, excluded } = attempts.ofFinal(final, start);
  const completion = {
    name,
    queue,
    state: final.state,
    finishedAt: final.at / 1e6,
    runTime: runTimeOf(final, start),
    lacksStart: lacksStart || (hasRun(final) && start === undefined),
    lacksRevocation: isTermination(final),
    excluded,
    worker: final.worker,
    exception: final.exception,
  };
  return { completion, finals, sent: finals.some(({ sent }) => sent) };
}

/** Whether it is the failure that a termination brings about. */
function isTermination({ state, terminated }: FinalFact): boolean {
  return state === "FAILURE" && terminated;
}

function runTimeOf(final: FinalFact, start: StartedFact | undefined): number | undefined {
  if (!hasRun(final)) return undefined;
  return final.runtime ?? (start === undefined ? undefined : (final.at - start.at) / 1e6);
}

function byWeight(a: FinalFact, b: FinalFact): number {
  return (
    Number(a.state !== "REJECTED") - Number(b.state !== "REJECTED") ||
    a.at - b.at ||
    STATE_RANK[a.state] - STATE_RANK[b.state] ||
    byInstant(a, b)
  );
}
