/**
 * A decoded value to an event whose types are certain.
 *
 * Written by hand, field by field, because it runs for every event: a schema library costs several times as much. Fields we do not know are dropped,
 * null and unusable fields are absent, and only a missing type, task id or timestamp refuses the event.
 */
import type {
  CeleryEvent,
  OtherEvent,
  TaskEvent,
  TaskEventType,
  TaskFailed,
  TaskRejected,
  TaskRevoked,
  TaskSent,
  TaskSucceeded,
  WorkerEvent,
} from "./event.ts";
import { realException } from "./exception.ts";
import { countField, flagField, idField, instantField, nameField, quantityField, textField, timestampField } from "./fields.ts";
import type { RejectReason } from "./frame.ts";
import { isExit } from "./task-state.ts";
import { MAX_TEXT_LENGTH, cleanText } from "./text.ts";

type Source = Readonly<Record<string, unknown>>;
type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** What one type of task event has beyond the fields of all. */
type Own<T extends TaskEvent> = Partial<Mutable<Omit<T, "type" | "hostname" | "timestamp" | "uuid">>>;
/** A task event while its fields are being filled in. */
type TaskDraft = {
  readonly type: TaskEventType;
  readonly hostname: string;
  readonly timestamp: number;
  readonly uuid: string;
} & Own<TaskSent> &
  Own<TaskSucceeded> &
  Own<TaskFailed> &
  Own<TaskRevoked> &
  Own<TaskRejected>;

/** Why a value is not an event. */
export class Refusal {
  readonly reason: RejectReason;
  readonly detail: string;

  constructor(reason: RejectReason, detail: string) {
    this.reason = reason;
    this.detail = detail;
  }
}

const NOT_AN_OBJECT = new Refusal("not_an_event", "an event must be an object");
const BAD_TYPE = new Refusal("type", "type must be 1 to 128 visible characters");
const BAD_UUID = new Refusal("uuid", "a task event must have a uuid, a string of 1 to 512 characters without NUL");
const BAD_TIMESTAMP = new Refusal("timestamp", "timestamp must be Unix seconds, from 1970 to 2096");

/** Where an event does not tell its sender. Celery always does. */
const UNKNOWN_HOSTNAME = "unknown";

/** Types become labels of metrics and subjects of globs: no spaces, no control characters. */
const TYPE = /^[^\s\p{C}]{1,128}$/u;

/** `sent`: as Celery writes an event. `stored`: as we do, with instants as numbers and with what is our own. */
export type EventForm = "sent" | "stored";

export function normalise(raw: unknown, form: EventForm = "sent"): CeleryEvent | Refusal {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) return NOT_AN_OBJECT;
  const source = raw as Source;
  const type = source["type"];
  if (typeof type !== "string") return BAD_TYPE;
  const timestamp = timestampField(source["timestamp"]);
  if (timestamp === undefined) return BAD_TIMESTAMP;
  const hostname = nameField(source["hostname"]) ?? UNKNOWN_HOSTNAME;
  switch (type) {
    case "task-sent":
    case "task-received":
    case "task-started":
    case "task-succeeded":
    case "task-failed":
    case "task-retried":
    case "task-revoked":
    case "task-rejected": {
      const uuid = idField(source["uuid"]);
      return uuid === undefined ? BAD_UUID : fillTask({ type, hostname, timestamp, uuid }, source, form);
    }
    case "worker-online":
    case "worker-heartbeat":
    case "worker-offline":
      return fillWorker({ type, hostname, timestamp }, source);
    default:
      return TYPE.test(type) ? fillOther({ type, hostname, timestamp }, source) : BAD_TYPE;
  }
}

function fillTask(draft: TaskDraft, source: Source, form: EventForm): TaskEvent {
  switch (draft.type) {
    case "task-sent": {
      fillDescription(draft, source, form);
      const queue = nameField(source["queue"]);
      if (queue !== undefined) draft.queue = queue;
      break;
    }
    case "task-received":
      fillDescription(draft, source, form);
      break;
    case "task-started":
      break;
    case "task-succeeded": {
      const result = textField(source["result"]);
      if (result !== undefined) draft.result = result;
      const runtime = quantityField(source["runtime"]);
      if (runtime !== undefined) draft.runtime = runtime;
      break;
    }
    case "task-failed":
      fillException(draft, source, form);
      if (isExit(draft.exception) || (form === "stored" && source["exited"] === true)) draft.exited = true;
      break;
    case "task-retried":
      fillException(draft, source, form);
      break;
    case "task-revoked":
      fillRevocation(draft, source);
      break;
    case "task-rejected": {
      const requeue = flagField(source["requeue"]);
      if (requeue !== undefined) draft.requeue = requeue;
      break;
    }
    default:
      draft.type satisfies never;
  }
  return draft;
}

function fillDescription(draft: TaskDraft, source: Source, form: EventForm): void {
  const name = nameField(source["name"]);
  if (name !== undefined) draft.name = name;
  const args = textField(source["args"]);
  if (args !== undefined) draft.args = args;
  const kwargs = textField(source["kwargs"]);
  if (kwargs !== undefined) draft.kwargs = kwargs;
  const rootId = idField(source["root_id"]);
  if (rootId !== undefined) draft.root_id = rootId;
  const parentId = idField(source["parent_id"]);
  // A retry or a replacement names the task as its own parent.
  if (parentId === draft.uuid) draft.again = true;
  else if (parentId !== undefined) draft.parent_id = parentId;
  const retries = countField(source["retries"]);
  if (retries !== undefined) draft.retries = retries;
  const instant = form === "stored" ? timestampField : instantField;
  const eta = instant(source["eta"]);
  if (eta !== undefined) draft.eta = eta;
  const expires = instant(source["expires"]);
  if (expires !== undefined) draft.expires = expires;
  if (form === "sent") return;
  if (source["again"] === true) draft.again = true;
  if (source["excluded"] === true) draft.excluded = true;
}

function fillException(draft: TaskDraft, source: Source, form: EventForm): void {
  const traceback = textField(source["traceback"]);
  const exception = textField(source["exception"]);
  if (exception !== undefined) draft.exception = form === "sent" ? sentException(exception, source["traceback"]) : exception;
  if (traceback !== undefined) draft.traceback = traceback;
}

/** @param traceback as it was sent: the end, which matters, may be cut off from ours. */
function sentException(exception: string, traceback: unknown): string {
  return cleanText(realException(exception, typeof traceback === "string" ? traceback : ""), MAX_TEXT_LENGTH);
}

function fillRevocation(draft: TaskDraft, source: Source): void {
  const terminated = flagField(source["terminated"]);
  if (terminated !== undefined) draft.terminated = terminated;
  const expired = flagField(source["expired"]);
  if (expired !== undefined) draft.expired = expired;
  const signum = nameField(source["signum"]);
  if (signum !== undefined) draft.signum = signum;
}

function fillWorker(draft: Mutable<WorkerEvent>, source: Source): WorkerEvent {
  const freq = quantityField(source["freq"]);
  if (freq !== undefined) draft.freq = freq;
  const active = quantityField(source["active"]);
  if (active !== undefined) draft.active = active;
  const processed = quantityField(source["processed"]);
  if (processed !== undefined) draft.processed = processed;
  return draft;
}

function fillOther(draft: Mutable<OtherEvent>, source: Source): OtherEvent {
  const uuid = idField(source["uuid"]);
  if (uuid !== undefined) draft.uuid = uuid;
  return draft;
}
