/** The events we keep, with Celery's names and types made certain. */
import { Refusal, idField, normalise } from "./normalise.ts";

/** What every event has. */
interface EventBase {
  /** The worker (`name@host`) or client (`gen<pid>@host`) that sent it. */
  readonly hostname: string;
  /** Unix time in seconds, UTC, as the sender's clock had it. `utcoffset` never corrects it (celery-exporter #262). */
  readonly timestamp: number;
}

interface TaskEventBase extends EventBase {
  /** The task's id. Celery accepts any string. */
  readonly uuid: string;
}

/** What `task-sent` and `task-received` tell of a task (celery/app/amqp.py, celery/worker/strategy.py). A field that is absent was null or missing. */
export interface TaskDescription {
  readonly name?: string;
  /** Python `repr`, cut at about 1,024 characters by Celery. */
  readonly args?: string;
  readonly kwargs?: string;
  readonly root_id?: string;
  /** Never the task's own id: a retry says so, and it is dropped. */
  readonly parent_id?: string;
  readonly retries?: number;
  /** Unix time in seconds; on the wire an ISO 8601 string. */
  readonly eta?: number;
  /** Unix time in seconds; on the wire an ISO 8601 string. */
  readonly expires?: number;
  /** Whether the message was sent from within the task itself: a retry, or a replacement. Celery then names the task as its own parent. */
  readonly again?: boolean;
  /** Set by the filters: this attempt is not wanted, though another one of the task is. */
  readonly excluded?: boolean;
}

export interface TaskSent extends TaskEventBase, TaskDescription {
  readonly type: "task-sent";
  /** Only this event has it. */
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
  /** Python `repr`, such as `ValueError('x')`. Where Celery sent only a wrapper it comes from the traceback (`exception.ts`). */
  readonly exception?: string;
  readonly traceback?: string;
  /** Whether the run ended because its process got a signal and exited (`reportsExit`). Of its own, as redaction may hide the exception. Only ever true. */
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
  readonly active?: number;
  readonly processed?: number;
}

/** Any other type: custom events, `task-cancelled`, gossip. It neither creates nor changes a task. */
export interface OtherEvent extends EventBase {
  readonly type: string;
  readonly uuid?: string;
}

/** An event that says something about a task. */
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

// Reads an event that we stored as JSON: another release may have written it, or somebody may have edited it.

/**
 * The event without fields that this release does not know; undefined where the value is no event, or a field that we do know is not as we
 * would have written it. Never throws for what JSON can hold.
 */
export function readStoredEvent(value: unknown): CeleryEvent | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const stored = value as Readonly<Record<string, unknown>>;
  // What decoding reads of it is what we know.
  const known = new Set<string>();
  const observed = new Proxy(stored, {
    get: (fields, name: string) => {
      known.add(name);
      return fields[name];
    },
  });
  const event = normalise(observed, "stored");
  if (event instanceof Refusal) return undefined;
  const read = event as unknown as Readonly<Record<string, unknown>>;
  return [...known].every((name) => (stored[name] ?? undefined) === undefined || stored[name] === read[name]) ? event : undefined;
}

/** Whether a stored value is a task's id as we write it. */
export function isTaskId(value: unknown): value is string {
  return typeof value === "string" && idField(value) === value;
}
