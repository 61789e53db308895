/** Decides what becomes of the tasks a job has claimed. PURE. */
import { type Lack, type Summary, summarise } from "../completions/summarise.ts";
import type { Claim } from "../task-store.ts";

export interface TriageOptions {
  /** How long after its end a task was claimed first, at the earliest. */
  readonly graceMs: number;
  /** How long a task that lacks something is put off, from its first claim. */
  readonly incompleteWaitMs: number;
}

export interface Triage {
  /** To be sent now; one that still lacks something has waited long enough. */
  readonly ready: ReadonlyMap<string, Summary>;
  /** Ours, but lacking something that may still come. */
  readonly incomplete: ReadonlyMap<string, Lack>;
  /** Another job's. */
  readonly busy: readonly string[];
  /** When the busy ones will be free. */
  readonly busyForMs: number;
}

/** A task that was terminated has its other event within 10 s, or its worker sends none: Celery before 5.6 mostly does not (ADR 3). */
const END_WAIT_MS = 10_000;
/**
 * Celery sends the failure of a rejection right after it (celery/worker/request.py, `on_failure`), and most rejections have none. So the grace
 * is long enough to wait for it.
 */
const FAILURE_WAIT_MS = 1_000;

/** Clocks and timers are not exact: what is busy is looked at a little after its lease has ended. */
const LEASE_MARGIN_MS = 50;
/** What is busy is most often done in a moment, by the twin of this job. */
const BUSY_FIRST_MS = 250;

export function triage(claims: ReadonlyMap<string, Claim>, options: TriageOptions): Triage {
  const ready = new Map<string, Summary>();
  const incomplete = new Map<string, Lack>();
  const busy: string[] = [];
  let busyForMs = 0;
  for (const [id, claim] of claims) {
    switch (claim.outcome) {
      case "sent":
        break;
      case "busy":
        busy.push(id);
        busyForMs = Math.max(busyForMs, claim.freeInMs);
        break;
      case "claimed": {
        const summary = summarise(claim.entry);
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
 * When to look again at what another job holds: after as long as it has been held already, so that a twin that is soon done is soon seen to be,
 * and a holder that died is asked after a few times until its lease ends.
 */
export function busyDelayMs(freeInMs: number, leaseMs: number): number {
  return Math.min(freeInMs + LEASE_MARGIN_MS, Math.max(BUSY_FIRST_MS, leaseMs - freeInMs));
}
