/** The events that we keep, with Celery's names and checked types. */
import { isDeepStrictEqual } from "node:util";
import { Reject, idField, normalise } from "./normalise.ts";

/** Fields of every event. */
interface EventBase {
  /** The worker (`name@host`) or client (`gen<pid>@host`) that sent it. */
  readonly hostname: string;
  /** Unix time in seconds, UTC, from the sender's clock. `utcoffset` never corrects it (celery-exporter #262). */
  readonly timestamp: number;
}

interface TaskEventBase extends EventBase {
  /** The task's id. Celery accepts any string. */
  readonly uuid: string;
}

/** The description of a task in `task-sent` and `task-received` (celery/app/amqp.py, celery/worker/strategy.py). An absent field was null or missing. */
export interface TaskDescription {
  readonly name?: string;
  /** Python `repr`, cut at about 1,024 characters by Celery. */
  readonly args?: string;
  readonly kwargs?: string;
  readonly root_id?: string;
  /** Never the task's own id: a retry contains that, and it is dropped. */
  readonly parent_id?: string;
  readonly retries?: number;
  /** Unix time in seconds; on the wire an ISO 8601 string. */
  readonly eta?: number;
  /** Unix time in seconds; on the wire an ISO 8601 string. */
  readonly expires?: number;
  /** Whether the task itself sent the message, as for a retry or a replacement. Celery then names the task as its own parent. */
  readonly again?: boolean;
  /** Set by the filters: this attempt is not wanted, but another attempt of the task is. */
  readonly excluded?: boolean;
}

export interface TaskSent extends TaskEventBase, TaskDescription {
  readonly type: "task-sent";
  /** Only this event contains it. */
  readonly queue?: string;
}

export interface TaskReceived extends TaskEventBase, TaskDescription {
  readonly type: "task-received";
}

export interface TaskStarted extends TaskEventBase {
  readonly type: "task-started";
}

export interface TaskSucceeded extends TaskEventBase {
  readonly type: "task-succeeded";
  /** Python `repr`. */
  readonly result?: string;
  /** Seconds. */
  readonly runtime?: number;
}

export interface TaskFailed extends TaskEventBase {
  readonly type: "task-failed";
  /** Python `repr`, such as `ValueError('x')`. If Celery sent only a wrapper, it comes from the traceback (`exception.ts`). */
  readonly exception?: string;
  readonly traceback?: string;
  /** True if the run ended because a signal made its process exit (`reportsExit`). A separate field, because redaction may hide the exception. */
  readonly exited?: boolean;
}

export interface TaskRetried extends TaskEventBase {
  readonly type: "task-retried";
  readonly exception?: string;
  readonly traceback?: string;
}

export interface TaskRevoked extends TaskEventBase {
  readonly type: "task-revoked";
  readonly terminated?: boolean;
  readonly expired?: boolean;
  readonly signum?: string;
}

export interface TaskRejected extends TaskEventBase {
  readonly type: "task-rejected";
  readonly requeue?: boolean;
}

export interface WorkerEvent extends EventBase {
  readonly type: "worker-online" | "worker-heartbeat" | "worker-offline";
  /** Seconds between heartbeats. */
  readonly freq?: number;
  /** Tasks that it is running. Absent, like `processed` and `loadavg`, in a heartbeat that answers a broadcast (celery/worker/control.py). */
  readonly active?: number;
  /** Tasks since the worker started. */
  readonly processed?: number;
  /** The worker's main process. */
  readonly pid?: number;
  /** Load averages of its host over 1, 5 and 15 minutes: one to three numbers. */
  readonly loadavg?: readonly number[];
  /** Name of the worker's software: `py-celery`. */
  readonly sw_ident?: string;
  /** Its version. */
  readonly sw_ver?: string;
  /** Its operating system, such as `Linux`. */
  readonly sw_sys?: string;
}

/** Any other type: custom events, `task-cancelled`, gossip. It never creates or changes a task. */
export interface OtherEvent extends EventBase {
  readonly type: string;
  readonly uuid?: string;
}

/** An event about a task. */
export type TaskEvent = TaskSent | TaskReceived | TaskStarted | TaskSucceeded | TaskFailed | TaskRetried | TaskRevoked | TaskRejected;

export type CeleryEvent = TaskEvent | WorkerEvent | OtherEvent;

export type TaskEventType = TaskEvent["type"];
export type EventType = TaskEventType | WorkerEvent["type"];

export const TASK_EVENT_TYPES = [
  "task-sent",
  "task-received",
  "task-started",
  "task-succeeded",
  "task-failed",
  "task-retried",
  "task-revoked",
  "task-rejected",
] as const satisfies readonly TaskEventType[];

const taskEventTypes: ReadonlySet<string> = new Set(TASK_EVENT_TYPES);

export function isTaskEvent(event: CeleryEvent): event is TaskEvent {
  return taskEventTypes.has(event.type);
}

// Reads an event that we stored as JSON. It may come from another release, or may have been edited.

/**
 * The event without fields that this release does not know. Undefined if the value is not an event, or if a known field differs from what we
 * would have written. Never throws for JSON values.
 */
export function readStoredEvent(value: unknown): CeleryEvent | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const stored = value as Readonly<Record<string, unknown>>;
  // The fields that decoding reads are the fields we know.
  const known = new Set<string>();
  const observed = new Proxy(stored, {
    get: (fields, name: string) => {
      known.add(name);
      return fields[name];
    },
  });
  const event = normalise(observed, "stored");
  if (event instanceof Reject) return undefined;
  const read = event as unknown as Readonly<Record<string, unknown>>;
  return [...known].every((name) => (stored[name] ?? undefined) === undefined || isDeepStrictEqual(stored[name], read[name]))
    ? event
    : undefined;
}

/** Whether a stored value is a valid task id in the form we write. */
export function isTaskId(value: unknown): value is string {
  return idField(value) === value;
}
