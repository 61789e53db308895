/** Builders of events with realistic defaults: the life of one task on one worker, each event slightly later than the previous one. */
import type {
  OtherEvent,
  TaskFailed,
  TaskReceived,
  TaskRejected,
  TaskRetried,
  TaskRevoked,
  TaskSent,
  TaskStarted,
  TaskSucceeded,
  WorkerEvent,
} from "../model/event.ts";

/** The fields that a test may set; the builder sets the type. */
type Fields<T> = Omit<Partial<T>, "type">;

/** The default task id. */
export const TASK_ID = "3ce907e3-796a-4b51-97cf-7cef1b946f91";
/** The time of its `task-sent`, in Unix seconds. */
export const SENT_AT = 1_795_328_900.25;

const WORKER = "w1@host-a";
const CLIENT = "gen4711@client-a";

const DESCRIPTION = {
  name: "shop.cart.total",
  args: "([2, 5, 5],)",
  kwargs: "{'coupon': 'été'}",
  root_id: TASK_ID,
  retries: 0,
};

export function taskSent(fields: Fields<TaskSent> = {}): TaskSent {
  return {
    type: "task-sent",
    hostname: CLIENT,
    timestamp: SENT_AT,
    uuid: TASK_ID,
    ...DESCRIPTION,
    ...rootOf(fields),
    queue: "celery",
    ...fields,
  };
}

export function taskReceived(fields: Fields<TaskReceived> = {}): TaskReceived {
  return {
    type: "task-received",
    hostname: WORKER,
    timestamp: SENT_AT + 0.25,
    uuid: TASK_ID,
    ...DESCRIPTION,
    ...rootOf(fields),
    ...fields,
  };
}

export function taskStarted(fields: Fields<TaskStarted> = {}): TaskStarted {
  return { type: "task-started", hostname: WORKER, timestamp: SENT_AT + 0.5, uuid: TASK_ID, ...fields };
}

export function taskSucceeded(fields: Fields<TaskSucceeded> = {}): TaskSucceeded {
  return {
    type: "task-succeeded",
    hostname: WORKER,
    timestamp: SENT_AT + 1,
    uuid: TASK_ID,
    result: "{'total': 12}",
    runtime: 0.4375,
    ...fields,
  };
}

export function taskFailed(fields: Fields<TaskFailed> = {}): TaskFailed {
  return { type: "task-failed", hostname: WORKER, timestamp: SENT_AT + 1, uuid: TASK_ID, ...error("ValueError('no stock')"), ...fields };
}

/** The failure of a task that its worker does not know. It has no traceback, because there was no run. */
export function taskNotRegistered(fields: Fields<TaskFailed> = {}): TaskFailed {
  return {
    type: "task-failed",
    hostname: WORKER,
    timestamp: SENT_AT + 1,
    uuid: TASK_ID,
    exception: "NotRegistered('shop.cart.total')",
    ...fields,
  };
}

export function taskRetried(fields: Fields<TaskRetried> = {}): TaskRetried {
  return {
    type: "task-retried",
    hostname: WORKER,
    timestamp: SENT_AT + 1,
    uuid: TASK_ID,
    ...error("ConnectionError('refused')"),
    ...fields,
  };
}

export function taskRevoked(fields: Fields<TaskRevoked> = {}): TaskRevoked {
  return { type: "task-revoked", hostname: WORKER, timestamp: SENT_AT + 1, uuid: TASK_ID, terminated: false, expired: false, ...fields };
}

export function taskRejected(fields: Fields<TaskRejected> = {}): TaskRejected {
  return { type: "task-rejected", hostname: WORKER, timestamp: SENT_AT + 1, uuid: TASK_ID, requeue: false, ...fields };
}

export function workerHeartbeat(fields: Fields<WorkerEvent> = {}): WorkerEvent {
  return { type: "worker-heartbeat", hostname: WORKER, timestamp: SENT_AT, freq: 2, active: 0, processed: 12, ...fields };
}

/** A user's `Task.send_event("task-progress")`. */
export function customEvent(fields: Partial<OtherEvent> = {}): OtherEvent {
  return { type: "task-progress", hostname: WORKER, timestamp: SENT_AT + 0.75, uuid: TASK_ID, ...fields };
}

/** A task without a parent is its own root. */
function rootOf({ uuid }: { readonly uuid?: string }): { root_id?: string } {
  return uuid === undefined ? {} : { root_id: uuid };
}

function error(exception: string): { exception: string; traceback: string } {
  return { exception, traceback: `Traceback (most recent call last):\n  File "shop/tasks.py", line 12, in run\n${exception}\n` };
}
