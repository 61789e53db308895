/** The expected result of the published tasks, summed up. */
import { EXPORTERS } from "@celery-metrics-exporter/pipeline";
import type { ExpectedTask, SyntheticTask } from "../load/synthetic-task.ts";

const TAKES: readonly (readonly [exporter: string, types: ReadonlySet<string>])[] = EXPORTERS.map(({ name, takes }) => [
  name,
  new Set(takes),
]);

export type Status = ExpectedTask["status"];

export class Expected {
  events = 0;
  tasks = 0;
  /** Number of values of wait_time and run_time. */
  samples = 0;
  readonly byStatus = new Map<Status, number>();
  readonly #taken = new Map<string, number>();

  /** Number of events that the exporter takes: not every exporter takes every type. */
  takenBy(exporter: string): number {
    return this.#taken.get(exporter) ?? 0;
  }

  add({ expected: { status, waits, runs }, events }: SyntheticTask): void {
    this.events += events.length;
    for (const [name, types] of TAKES) this.#taken.set(name, this.takenBy(name) + events.filter(({ type }) => types.has(type)).length);
    this.tasks += 1;
    this.samples += waits.length + runs.length;
    this.byStatus.set(status, (this.byStatus.get(status) ?? 0) + 1);
  }

  /** These expectations plus more. */
  addAll(other: Expected): void {
    this.events += other.events;
    this.tasks += other.tasks;
    this.samples += other.samples;
    for (const [name] of TAKES) this.#taken.set(name, this.takenBy(name) + other.takenBy(name));
    for (const [status, tasks] of other.byStatus) this.byStatus.set(status, (this.byStatus.get(status) ?? 0) + tasks);
  }
}
