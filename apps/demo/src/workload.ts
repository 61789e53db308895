/** The load of the demo: a real Celery application, or a simulator of its events. */
import type { TaskCounts } from "./comparison.ts";

export interface Outcome {
  /** How tasks ended. */
  readonly ended: TaskCounts;
  /** Tasks without a final event, by the reason that Celery gives. */
  readonly withoutEnd: ReadonlyMap<string, number>;
}

export interface Workload {
  /** A description for the user, after "… tasks sent". */
  readonly description: string;
  /** Tasks sent so far. */
  readonly sent: number;
  /** Rejects if it cannot continue; never resolves. */
  readonly failed: Promise<never>;
  /** Stops sending; resolves when every task that was sent has ended. */
  finish(): Promise<void>;
  /** What really happened to the tasks, as their runner reports it and not from events. Known after `finish`. */
  outcome(): Outcome;
  /** Stops everything it started. Safe to call twice. */
  stop(): Promise<void>;
}
