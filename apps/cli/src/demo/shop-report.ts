/** What `drive.py` reports of the tasks: written from Celery's signals by the processes that ran them, not from events. */
import { FINAL_STATES, TaskCounts, type FinalState } from "./comparison.ts";

export interface ShopReport {
  readonly tasks: Readonly<Record<string, { readonly name: string; readonly status: string }>>;
}

/** How the tasks ended. Those that never do, by Celery's own rules (`Ignore`), are left out: no event tells of their end. */
export function outcomeOf({ tasks }: ShopReport, celeryVersion: string): TaskCounts {
  const counts = new TaskCounts();
  for (const { name, status } of Object.values(tasks)) {
    const state = FINAL_STATES.find((final) => final === status);
    if (state !== undefined) counts.add(name, stateInEvents(state, celeryVersion));
  }
  return counts;
}

/** Since 5.6 Celery calls a rejected task failed too, and sends `task-failed` besides `task-rejected` (celery/worker/request.py). */
function stateInEvents(state: FinalState, celeryVersion: string): FinalState {
  const [major = 0, minor = 0] = celeryVersion.split(".").map(Number);
  const failsToo = major > 5 || (major === 5 && minor >= 6);
  return state === "REJECTED" && failsToo ? "FAILURE" : state;
}
