/** What keeps the demo busy: a real Celery application, or a simulator of its events. */
import type { TaskCounts } from "./comparison.ts";

export interface Outcome {
  /** How tasks ended. */
  readonly ended: TaskCounts;
  /** Tasks that came to no end that an event tells of, by what Celery says of them. */
  readonly withoutEnd: ReadonlyMap<string, number>;
}

export interface Workload {
  /** What it is, for the user: "… tasks sent" goes before. */
  readonly description: string;
  /** Tasks sent so far. */
  readonly sent: number;
  /** Rejects when it cannot go on; never resolves. */
  readonly failed: Promise<never>;
  /** Sends no more; resolves when every task that was sent has ended. */
  finish(): Promise<void>;
  /** What really became of the tasks, as whoever ran them tells; not from events. Known after `finish`. */
  outcome(): Outcome;
  /** Ends everything it started. Safe twice. */
  stop(): Promise<void>;
}
