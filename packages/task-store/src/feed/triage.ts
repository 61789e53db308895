/** Decides what happens to the tasks that a job has claimed. Pure. */
import { type Lack, type Summary, summarise, summariseRetries } from "../completions/summarise.ts";
import { isOfRetries } from "../keys.ts";
import type { Claim } from "../task-store.ts";

export interface TriageOptions {
  /** The shortest time between a task's end and its first claim. */
  readonly graceMs: number;
  /** How long a task that lacks something is put off, counted from its first claim. */
  readonly incompleteWaitMs: number;
}

export interface Triage {
  /** To be reported now. Those that still lack something have waited long enough. */
  readonly ready: ReadonlyMap<string, Summary>;
  /** Claimed by this job, but lacking something that may still come. */
  readonly incomplete: ReadonlyMap<string, Lack>;
  /** Claimed by another job. */
  readonly busy: readonly string[];
  /** How long until the busy ones are free. */
  readonly busyForMs: number;
}

/**
 * How long to wait for the end of a terminated run. The worker sends it within 10 s or never; Celery before 5.6 mostly never does (ADR 3).
 */
const END_WAIT_MS = 10_000;
/**
 * How long to wait for the failure of a rejection, including the grace. Celery sends it right after the rejection
 * (celery/worker/request.py, `on_failure`), and most rejections have none.
 */
const FAILURE_WAIT_MS = 1_000;

/** How long after its lease ends a busy task is checked again, because clocks and timers are not exact. */
const LEASE_MARGIN_MS = 50;
/** The first delay of a busy task: most often a duplicate of this job is about to finish it. */
const BUSY_FIRST_MS = 250;

export function triage(claims: ReadonlyMap<string, Claim>, options: TriageOptions): Triage {
  const ready = new Map<string, Summary>();
  const incomplete = new Map<string, Lack>();
  const busy: string[] = [];
  let busyForMs = 0;
  for (const [id, claim] of claims) {
    switch (claim.outcome) {
      case "reported":
        break;
      case "busy":
        busy.push(id);
        busyForMs = Math.max(busyForMs, claim.freeInMs);
        break;
      case "claimed": {
        const summary = isOfRetries(id) ? summariseRetries(claim.entry) : summarise(claim.entry);
        if (summary.lacks !== undefined && claim.waitedMs < patienceMs(summary.lacks, options)) incomplete.set(id, summary.lacks);
        else ready.set(id, summary);
        break;
      }
      default:
        claim satisfies never;
    }
  }
  return { ready, incomplete, busy, busyForMs };
}

function patienceMs(lack: Lack, { graceMs, incompleteWaitMs }: TriageOptions): number {
  if (lack === "end") return Math.min(END_WAIT_MS, incompleteWaitMs);
  return lack === "failure" ? Math.min(FAILURE_WAIT_MS - graceMs, incompleteWaitMs) : incompleteWaitMs;
}

/**
 * When to check a task again that another job holds: after as long as the job has held it already. So a duplicate job that finishes soon is
 * noticed soon, and the task of a dead job is checked only a few times until the lease ends.
 */
export function busyDelayMs(freeInMs: number, leaseMs: number): number {
  return Math.min(freeInMs + LEASE_MARGIN_MS, Math.max(BUSY_FIRST_MS, leaseMs - freeInMs));
}
