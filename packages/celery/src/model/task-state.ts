/**
 * Decides which event determines a task's state, in whatever order events arrive.
 *
 * A task's state is the state of its greatest event, by
 *
 *   1. precedence: final (SUCCESS, FAILURE, REVOKED) > REJECTED without requeue > any other event of a worker > `task-sent`;
 *   2. timestamp: the later wins, and a failure that only reports a signal to its process counts as 10 s earlier;
 *   3. rank of the state, for equal timestamps;
 *
 * The machines' clocks differ and events overtake each other, so a final always beats an event that is not final, regardless of timestamps.
 * REJECTED yields to the other finals because Celery 5.6 sends `task-failed` and `task-rejected` for one rejection.
 *
 * A running task that is revoked with `terminate=True` sends `task-revoked`. Since billiard 4.3 it also sends, at the same moment, `task-failed`
 * with `SystemExit(-241)`, because the signal ends its process. Both report one end, and Celery's result backend says REVOKED. So such a failure
 * yields to another final of the same moment. A later run still wins, whichever way it ends. The order stays total, because an event's place in
 * it depends on that event alone.
 */
import type { TaskEvent, TaskEventType } from "./event.ts";

/** Celery's states (celery/states.py). */
export type TaskState = "PENDING" | "RECEIVED" | "STARTED" | "RETRY" | "REJECTED" | "REVOKED" | "FAILURE" | "SUCCESS";

const STATE_OF: Readonly<Record<TaskEventType, TaskState>> = {
  "task-sent": "PENDING",
  "task-received": "RECEIVED",
  "task-started": "STARTED",
  "task-retried": "RETRY",
  "task-rejected": "REJECTED",
  "task-revoked": "REVOKED",
  "task-failed": "FAILURE",
  "task-succeeded": "SUCCESS",
};

/** Celery's own precedence (celery/states.py, PRECEDENCE), as a number: higher wins. */
export const STATE_RANK: Readonly<Record<TaskState, number>> = {
  PENDING: 0,
  RETRY: 1,
  REJECTED: 2,
  RECEIVED: 3,
  STARTED: 4,
  REVOKED: 5,
  FAILURE: 6,
  SUCCESS: 7,
};

/** The first criterion; see above. */
export const PRECEDENCE = { sent: 0, worker: 1, rejected: 2, final: 3 } as const;
export type Precedence = (typeof PRECEDENCE)[keyof typeof PRECEDENCE];

/** The state that Celery gives a task for this event (celery/events/state.py, `event_to_state`). */
export function stateOf(event: TaskEvent): TaskState {
  return STATE_OF[event.type];
}

export function precedenceOf(event: TaskEvent): Precedence {
  switch (event.type) {
    case "task-succeeded":
    case "task-failed":
    case "task-revoked":
      return PRECEDENCE.final;
    case "task-rejected":
      return event.requeue === true ? PRECEDENCE.worker : PRECEDENCE.rejected;
    case "task-sent":
      return PRECEDENCE.sent;
    case "task-received":
    case "task-started":
    case "task-retried":
      return PRECEDENCE.worker;
    default:
      return event satisfies never;
  }
}

/** How much earlier a failure that reports an exit counts, in seconds: a task may clean up for a while before its process exits. */
export const EXIT_YIELDS_SECONDS = 10;

/** A pool process that gets a signal calls `sys.exit(-(256 - signum))` (billiard/common.py, `_shutdown_cleanup`). Signals are 1 to 64. */
const EXIT = /^SystemExit\(['"]?-(?:19[2-9]|2[0-4]\d|25[0-5])\b/;

/** Whether an exception's `repr` shows that a signal made the process exit. */
export function isExit(exception: string | undefined): boolean {
  return exception !== undefined && EXIT.test(exception);
}

/**
 * Whether this final only reports that a signal made the run's process exit. It may be the consequence of another final: a `task-revoked` of the
 * same run (same worker, no `task-started` in between) beats it, as any other final beats REJECTED.
 */
export function reportsExit(event: TaskEvent): boolean {
  return event.type === "task-failed" && (event.exited === true || isExit(event.exception));
}

/** The second criterion; see above. Unix time in seconds. */
export function orderingTimestamp(event: TaskEvent): number {
  return reportsExit(event) ? Math.max(0, event.timestamp - EXIT_YIELDS_SECONDS) : event.timestamp;
}

/** Whether no further event is expected after this one: SUCCESS, FAILURE, REVOKED, or REJECTED without requeue. RETRY is not final. */
export function isFinal(event: TaskEvent): boolean {
  return precedenceOf(event) >= PRECEDENCE.rejected;
}
