/** What `drive.py` reports of the tasks: written from Celery's signals by the processes that ran them, not from events. */
import { FINAL_STATES, TaskCounts } from "./comparison.ts";
import type { Outcome } from "./workload.ts";

export interface ShopReport {
  readonly tasks: Readonly<Record<string, { readonly name: string; readonly status: string }>>;
}

/** How the tasks ended. Those of `Ignore` never do, by Celery's own rules; nor do those that the report came too early for. */
export function outcomeOf({ tasks }: ShopReport): Outcome {
  const ended = new TaskCounts();
  const withoutEnd = new Map<string, number>();
  for (const { name, status } of Object.values(tasks)) {
    const state = FINAL_STATES.find((final) => final === status);
    if (state === undefined) withoutEnd.set(status, (withoutEnd.get(status) ?? 0) + 1);
    else ended.add(name, state);
  }
  return { ended, withoutEnd };
}
