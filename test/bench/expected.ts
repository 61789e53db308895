/** What must come of the tasks that were published, added up. */
import type { ExpectedTask } from "../load/synthetic-task.ts";

export type Status = ExpectedTask["status"];

export class Expected {
  events = 0;
  tasks = 0;
  /** Values of wait_time and run_time. */
  samples = 0;
  readonly byStatus = new Map<Status, number>();

  /** @param events of the task. */
  add({ status, waits, runs }: ExpectedTask, events: number): void {
    this.events += events;
    this.tasks += 1;
    this.samples += waits.length + runs.length;
    this.byStatus.set(status, (this.byStatus.get(status) ?? 0) + 1);
  }

  /** The same and more. */
  addAll(other: Expected): void {
    this.events += other.events;
    this.tasks += other.tasks;
    this.samples += other.samples;
    for (const [status, tasks] of other.byStatus) this.byStatus.set(status, (this.byStatus.get(status) ?? 0) + tasks);
  }
}
