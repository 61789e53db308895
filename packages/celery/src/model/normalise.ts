/**
 * Converts a decoded value to an event with checked types.
 *
 * Written by hand, field by field, because it runs for every event: a schema library takes several times as long. Unknown fields are dropped,
 * null and unusable fields are absent, and only a missing type, task id or timestamp makes it reject the event.
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
import { realException } from "../python/exception.ts";
import type { RejectReason } from "../wire/frame.ts";
import { isExit } from "./task-state.ts";
import { MAX_NAME_LENGTH, MAX_TEXT_LENGTH, cleanText } from "../python/text.ts";
import { MAX_TIMESTAMP, parseIsoTime } from "./time.ts";

type Source = Readonly<Record<string, unknown>>;
type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The fields of one type of task event beyond those of all types. */
type Own<T extends TaskEvent> = Partial<Mutable<Omit<T, "type" | "hostname" | "timestamp" | "uuid">>>;
/** A task event under construction. */
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

/** The reason why a value is not an event. */
export class Reject {
  readonly reason: RejectReason;
  readonly detail: string;

  constructor(reason: RejectReason, detail: string) {
    this.reason = reason;
    this.detail = detail;
  }
}

const NOT_AN_OBJECT = new Reject("not_an_event", "an event must be an object");
const BAD_TYPE = new Reject("type", "type must be 1 to 128 visible characters");
const BAD_UUID = new Reject("uuid", "a task event must have a uuid, a string of 1 to 512 characters without NUL");
const BAD_TIMESTAMP = new Reject("timestamp", "timestamp must be Unix seconds, from 1970 to 2096");

/** The hostname if an event has none. Celery always sends one. */
const UNKNOWN_HOSTNAME = "unknown";

/** Types become metric labels and are matched by globs, so spaces and control characters are not allowed. */
const TYPE = /^[^\s\p{C}]{1,128}$/u;

/** `sent`: an event as Celery writes it. `stored`: an event as we write it, with instants as numbers and with our own fields. */
export type EventForm = "sent" | "stored";

export function normalise(raw: unknown, form: EventForm = "sent"): CeleryEvent | Reject {
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
      // Sums of longer ones could exceed what a database can hold.
      if (runtime !== undefined && runtime <= MAX_TIMESTAMP) draft.runtime = runtime;
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

/** @param traceback as it was sent: its end, which matters, may be cut off from ours. */
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
  const pid = countField(source["pid"]);
  if (pid !== undefined) draft.pid = pid;
  const loadavg = loadField(source["loadavg"]);
  if (loadavg !== undefined) draft.loadavg = loadavg;
  const ident = nameField(source["sw_ident"]);
  if (ident !== undefined) draft.sw_ident = ident;
  const version = nameField(source["sw_ver"]);
  if (version !== undefined) draft.sw_ver = version;
  const system = nameField(source["sw_sys"]);
  if (system !== undefined) draft.sw_sys = system;
  return draft;
}

function fillOther(draft: Mutable<OtherEvent>, source: Source): OtherEvent {
  const uuid = idField(source["uuid"]);
  if (uuid !== undefined) draft.uuid = uuid;
  return draft;
}

// One function per kind of field. Each converts what a sender wrote to the type we promise, or to `undefined` (null, missing or unusable).

/** The longest task id accepted. Celery's own have 36 characters. A longer id is rejected, because a cut id could be another task's. */
export const MAX_ID_LENGTH = 512;

const MAX_INT32 = 2_147_483_647;

function textField(value: unknown): string | undefined {
  return scalarText(unwrap(value), MAX_TEXT_LENGTH);
}

function nameField(value: unknown): string | undefined {
  const name = scalarText(unwrap(value), MAX_NAME_LENGTH);
  return name === "" ? undefined : name;
}

/**
 * A task id: a string of 1 to 512 characters without NUL, a `uuid.UUID` as kombu 5.3 writes it, or a whole number, which Celery accepts on Redis.
 * A number that JSON does not represent exactly could be another task's id, so it is rejected.
 */
export function idField(value: unknown): string | undefined {
  const id = Number.isSafeInteger(value) ? String(value) : uuidText(unwrap(value));
  if (id === undefined || id === "" || id.length > MAX_ID_LENGTH || id.includes("\0")) return undefined;
  return cleanText(id, MAX_ID_LENGTH);
}

/** Seconds since the epoch, within the accepted range. */
function timestampField(value: unknown): number | undefined {
  return typeof value === "number" && value >= 0 && value <= MAX_TIMESTAMP ? value : undefined;
}

/** `eta` and `expires`: ISO 8601. A number is dropped because it is ambiguous: Celery also accepts `expires` as seconds from now. */
function instantField(value: unknown): number | undefined {
  const text = unwrap(value);
  return typeof text === "string" ? parseIsoTime(text) : undefined;
}

/** A finite number that is not negative, such as seconds or a count. */
function quantityField(value: unknown): number | undefined {
  return typeof value === "number" && value >= 0 && value < Infinity ? value : undefined;
}

const MAX_LOADS = 3;

/** Load averages. The place of each number is its meaning, so a list with one bad number is dropped. */
function loadField(value: unknown): readonly number[] | undefined {
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_LOADS) return undefined;
  const loads = value.map(quantityField);
  return loads.every((load) => load !== undefined) ? loads : undefined;
}

/** A whole number that fits Postgres' `integer`. */
function countField(value: unknown): number | undefined {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= MAX_INT32 ? value : undefined;
}

function flagField(value: unknown): boolean | undefined {
  return typeof value === "boolean" ? value : undefined;
}

/** Numbers and booleans as text (`signum` is an int, a string or null); lists and objects are not text. */
function scalarText(value: unknown, maxLength: number): string | undefined {
  if (typeof value === "string") return cleanText(value, maxLength);
  return typeof value === "number" || typeof value === "boolean" ? String(value) : undefined;
}

/** kombu 5.3 and later write rich types as `{"__type__": "datetime", "__value__": …}` (kombu/utils/json.py). */
function unwrap(value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("__value__" in value)) return value;
  return value.__value__;
}

/** `uuid.UUID` arrives as `{"hex": "…"}`. The result has hyphens, as in Python and in the task's other events. */
function uuidText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null || !("hex" in value)) return undefined;
  const match = typeof value.hex === "string" && /^(.{8})(.{4})(.{4})(.{4})(.{12})$/.exec(value.hex);
  return match ? match.slice(1).join("-") : undefined;
}

// Limits on the cost of one message. A body within them takes at worst a few seconds and a few hundred megabytes; without them, 10 MB block the
// process for half a minute. Celery sends at most 24 events in a message (celery/events/dispatcher.py, `buffer_limit`); these limits leave room
// for 100,000.

/** Size as received from the broker. RabbitMQ's own default limit is 16 MiB since 4.0 (`max_message_size`), 128 MiB before. */
export const MAX_FRAME_BYTES = 64 * 2 ** 20;
export const MAX_DEPTH = 100;
/** A list of 100,000 events with all of Celery's fields has 1.9 million values. */
export const MAX_VALUES = 2_000_000;
/** Objects without common keys cost V8 ten times as much as similar ones; Celery's events have 30 different keys. */
export const MAX_KEYS = 10_000;
/** Up to this size, in bytes or characters, a body is not scanned first: parsing it takes milliseconds at most. */
export const SMALL_BODY = 65_536;

/** Thrown if a body exceeds a limit. The message is a sentence for people, and contains nothing of the body. */
export class TooLargeError extends Error {}

/** @throws {TooLargeError} */
export function checkSize(body: Uint8Array | string): void {
  if (body.length > MAX_FRAME_BYTES) throw new TooLargeError(`the body is longer than ${MAX_FRAME_BYTES / 2 ** 20} MiB`);
}

/** Counts what a scan of a body finds. Each method throws `TooLargeError` at its limit. */
export class Census {
  readonly #keys = new Set<string>();
  #values = 0;

  value(): void {
    if (++this.#values > MAX_VALUES) throw new TooLargeError(`the body has more than ${MAX_VALUES} values`);
  }

  key(key: string): void {
    this.#keys.add(key);
    if (this.#keys.size > MAX_KEYS) throw new TooLargeError(`the body has more than ${MAX_KEYS} different keys`);
  }

  depth(depth: number): void {
    if (depth > MAX_DEPTH) throw new TooLargeError(`the body is nested more than ${MAX_DEPTH} levels`);
  }
}
