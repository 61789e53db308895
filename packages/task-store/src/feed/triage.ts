/** Decides what becomes of the tasks a job has claimed. PURE. */
import { summarise, type Claim, type Lack, type Summary } from "@celery-metrics-exporter/task-store";

export interface TriageOptions {
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

/**
 * A task that was terminated or rejected has its other event within 10 s, or its worker sends none: Celery before 5.6 mostly does not
 * (`docs/adr/0003-row-merge.md`).
 */
const END_WAIT_MS = 10_000;

export function triage(claims: ReadonlyMap<string, Claim>, { incompleteWaitMs }: TriageOptions): Triage {
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
        if (summary.lacks !== undefined && claim.waitedMs < patienceMs(summary.lacks, incompleteWaitMs)) incomplete.set(id, summary.lacks);
        else ready.set(id, summary);
        break;
      }
      default:
        claim satisfies never;
    }
  }
  return { ready, incomplete, busy, busyForMs };
}

function patienceMs(lack: Lack, incompleteWaitMs: number): number {
  return lack === "end" ? Math.min(END_WAIT_MS, incompleteWaitMs) : incompleteWaitMs;
}
