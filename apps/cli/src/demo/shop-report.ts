/** What `drive.py` reports of the tasks: written from Celery's signals by the processes that ran them, not from events. */
import { FINAL_STATES, TaskCounts, type FinalState } from "./comparison.ts";
import type { Outcome } from "./workload.ts";

export interface ShopReport {
  readonly tasks: Readonly<Record<string, { readonly name: string; readonly status: string }>>;
}

/** How the tasks ended. Those of `Ignore` never do, by Celery's own rules; nor do those that the report came too early for. */
export function outcomeOf({ tasks }: ShopReport, celeryVersion: string): Outcome {
  const ended = new TaskCounts();
  const withoutEnd = new Map<string, number>();
  for (const { name, status } of Object.values(tasks)) {
    const state = FINAL_STATES.find((final) => final === status);
    if (state === undefined) withoutEnd.set(status, (withoutEnd.get(status) ?? 0) + 1);
    else ended.add(name, stateInEvents(state, celeryVersion));
  }
  return { ended, withoutEnd };
}

/** Since 5.6 Celery calls a rejected task failed too, and sends `task-failed` besides `task-rejected` (celery/worker/request.py). */
function stateInEvents(state: FinalState, celeryVersion: string): FinalState {
  const [major = 0, minor = 0] = celeryVersion.split(".").map(Number);
  const failsToo = major > 5 || (major === 5 && minor >= 6);
  return state === "REJECTED" && failsToo ? "FAILURE" : state;
}
