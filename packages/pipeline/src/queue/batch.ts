/**
 * The payload of a queued batch: how events are written into a BullMQ job, and read back.
 *
 * Most of a batch is repeated texts (ids, hostnames, names and reprs occur in several events of a task). So each text is stored once in
 * `texts`, and the events refer to it. For each event, `events` contains a number with one bit per field that it has (see `FIELD_KINDS`),
 * its type, and the values in that order. This is one flat list, because a list per event costs more to garbage-collect than to write.
 * Compared with plain JSON objects, it takes a third of the bytes at the same CPU (`docs/adr/0005-batches-as-jobs.md`).
 */
import { PermanentError } from "@celery-metrics-exporter/runtime";
import type { CeleryEvent, EventType } from "@celery-metrics-exporter/celery";
import { UNWANTED } from "../filter/attempt-memory.ts";
import type { MarkedTask } from "../filter/batch-filter.ts";
import { NewerPayloadError } from "../contract/errors.ts";
import { halves } from "../deliver/evidence.ts";

/** Events that came from one broker together. */
export interface EventBatch {
  /** `rabbitmq` or `redis`. */
  readonly broker: string;
  /**
   * When the receiver closed the batch: seconds since the epoch, by the receiver's clock. Absent from batches of an older release, and from
   * replayed ones.
   */
  readonly receivedAt?: number;
  readonly events: readonly CeleryEvent[];
  /**
   * Marked tasks: those that the receiver's filters exclude after events of them may have passed; and those with events here that are
   * kept after they were excluded (`HostFilter`).
   */
  readonly marked?: readonly MarkedTask[];
  /** Whether tasks with events here may still turn out to be excluded. Hosts then have to look for leftovers. */
  readonly doubtful?: boolean;
}

/**
 * The version of the payload's format, including the fields that a reader must know to get numbers right. Processes that only know an
 * earlier version keep the job for others. So upgrade processors first.
 */
const VERSION = 3;
/**
 * The same format without the marks of attempts and failures (`again`, `excluded`, `exited`), and with ids in `excluded` instead of `told`.
 */
const UNMARKED_VERSION = 2;

/** The contents of a job in an exporter's queue. */
export interface BatchPayload {
  readonly v: typeof VERSION;
  readonly broker: string;
  readonly receivedAt?: number;
  readonly texts: readonly string[];
  readonly events: readonly FieldValue[];
  /** The marked tasks: alternating ids and marks. */
  readonly told?: readonly string[];
  readonly doubtful?: true;
}

/** As it is written. */
type FieldValue = string | number | boolean;
type FieldsOf<E> = E extends unknown ? Exclude<keyof E, "type"> : never;
type Field = FieldsOf<CeleryEvent>;
/** The event with a known type. Events whose type can be any text are left out. */
type EventOf<T, E = CeleryEvent> = E extends { readonly type: infer U } ? (string extends U ? never : T extends U ? E : never) : never;

/** How a field's values are written: in `texts`, as they are, or as numbers with blanks between them, in `texts`. */
type FieldKind = "text" | "value" | "numbers";

/**
 * Every field that an event can have, and how its values are written. Only append: the position is the field's bit in the payload, of which
 * there are 32. Increase `VERSION` if a process that ignores the field would get numbers or rows wrong.
 */
const FIELD_KINDS: Readonly<Record<Field, FieldKind>> = {
  hostname: "text",
  timestamp: "value",
  uuid: "text",
  name: "text",
  args: "text",
  kwargs: "text",
  root_id: "text",
  parent_id: "text",
  retries: "value",
  eta: "value",
  expires: "value",
  queue: "text",
  result: "text",
  runtime: "value",
  exception: "text",
  traceback: "text",
  terminated: "value",
  expired: "value",
  signum: "text",
  requeue: "value",
  freq: "value",
  active: "value",
  processed: "value",
  exited: "value",
  again: "value",
  excluded: "value",
  pid: "value",
  loadavg: "numbers",
  sw_ident: "text",
  sw_ver: "text",
  sw_sys: "text",
};

interface Column {
  readonly field: Field;
  readonly bit: number;
  readonly kind: FieldKind;
}

const COLUMNS: readonly Column[] = (Object.keys(FIELD_KINDS) as Field[]).map((field, index) => {
  return { field, bit: 1 << index, kind: FIELD_KINDS[field] };
});

const TASK = { hostname: true, timestamp: true, uuid: true } as const;
const DESCRIPTION = {
  ...TASK,
  name: true,
  args: true,
  kwargs: true,
  root_id: true,
  parent_id: true,
  retries: true,
  eta: true,
  expires: true,
  again: true,
  excluded: true,
} as const;
const EXCEPTION = { ...TASK, exception: true, traceback: true } as const;
const WORKER = {
  hostname: true,
  timestamp: true,
  freq: true,
  active: true,
  processed: true,
  pid: true,
  loadavg: true,
  sw_ident: true,
  sw_ver: true,
  sw_sys: true,
} as const;

/** The fields that events of each type can have. Most have few, and checking for all others takes longer than writing these. */
const FIELDS_BY_TYPE: { readonly [T in EventType]: Readonly<Record<FieldsOf<EventOf<T>>, true>> } = {
  "task-sent": { ...DESCRIPTION, queue: true },
  "task-received": DESCRIPTION,
  "task-started": TASK,
  "task-succeeded": { ...TASK, result: true, runtime: true },
  "task-failed": { ...EXCEPTION, exited: true },
  "task-retried": EXCEPTION,
  "task-revoked": { ...TASK, terminated: true, expired: true, signum: true },
  "task-rejected": { ...TASK, requeue: true },
  "worker-online": WORKER,
  "worker-heartbeat": WORKER,
  "worker-offline": WORKER,
};

const NONE: ReadonlySet<string> = new Set();

/** Writes events as a payload, without the fields in `omits`. */
export function encodeBatch(batch: EventBatch, omits: ReadonlySet<string> = NONE): BatchPayload {
  const { broker, receivedAt, events, marked = [], doubtful = false } = batch;
  const columns = COLUMNS.filter(({ field }) => !omits.has(field));
  const columnsByType = new Map(
    Object.entries(FIELDS_BY_TYPE).map(([type, fields]) => [type, columns.filter(({ field }) => field in fields)]),
  );
  const texts: string[] = [];
  const positions = new Map<string, number>();
  const refer = (text: string): number => {
    let position = positions.get(text);
    if (position === undefined) {
      position = texts.push(text) - 1;
      positions.set(text, position);
    }
    return position;
  };
  const values: FieldValue[] = [];
  for (const event of events) {
    const fields = event as Partial<Record<Field, FieldValue | readonly number[]>>;
    const start = values.length;
    values.push(0, refer(event.type));
    let bits = 0;
    for (const { field, bit, kind } of columnsByType.get(event.type) ?? columns) {
      const value = fields[field];
      if (value === undefined) continue;
      bits |= bit;
      if (kind === "value") values.push(value as FieldValue);
      else values.push(refer(kind === "text" ? String(value) : (value as readonly number[]).join(" ")));
    }
    values[start] = bits;
  }
  const pairs = marked.flatMap(({ id, marks }) => [id, marks.join(" ")]);
  return {
    v: VERSION,
    broker,
    ...(receivedAt !== undefined && { receivedAt }),
    texts,
    events: values,
    ...(pairs.length > 0 && { told: pairs }),
    ...(doubtful && { doubtful }),
  };
}

/**
 * Reads a payload. Ignores fields that a newer release appended without a new version, because no number depends on them.
 *
 * @throws {NewerPayloadError} for a newer version.
 * @throws {PermanentError} for an older version, or anything that `encodeBatch` did not write.
 */
export function decodeBatch(payload: unknown): EventBatch {
  const { v, broker, receivedAt, texts, events, told, doubtful, excluded } = asRecord(payload);
  if (typeof v === "number" && v > VERSION) throw new NewerPayloadError("a batch", v);
  if (v !== VERSION && v !== UNMARKED_VERSION)
    throw new PermanentError(`batch payload of unknown version ${JSON.stringify(v) ?? "(none)"}`);
  if (typeof broker !== "string" || !Array.isArray(texts) || !Array.isArray(events)) throw new PermanentError("batch payload is malformed");
  return {
    broker,
    ...(isQuantity(receivedAt) && { receivedAt }),
    events: decodeEvents(events, texts),
    ...(told !== undefined && { marked: asMarked(told) }),
    ...(v === UNMARKED_VERSION && excluded !== undefined && { marked: asExcluded(excluded) }),
    ...(doubtful === true && { doubtful }),
  };
}

function asTexts(value: unknown): readonly string[] {
  if (Array.isArray(value) && value.every((text) => typeof text === "string")) return value;
  throw new PermanentError("batch payload has ids that are not texts");
}

function asExcluded(value: unknown): MarkedTask[] {
  return asTexts(value).map((id) => ({ id, marks: [UNWANTED] }));
}

function asMarked(value: unknown): MarkedTask[] {
  const texts = asTexts(value);
  return texts.flatMap((id, index) =>
    index % 2 === 0 ? [{ id, marks: (texts[index + 1] ?? "").split(" ").filter((mark) => mark !== "") }] : [],
  );
}

/** The bits of the first columns: `hostname` and `timestamp`, and `uuid`. */
const OF_EVERY_EVENT = 0b011;
const UUID = 0b100;

function decodeEvents(values: readonly unknown[], texts: readonly unknown[]): CeleryEvent[] {
  const events: CeleryEvent[] = [];
  for (let position = 0; position < values.length;) {
    const bits = values[position++];
    if (typeof bits !== "number") throw new PermanentError("batch payload has an event without its fields");
    const type = textAt(texts, values[position++]);
    if ((bits & OF_EVERY_EVENT) !== OF_EVERY_EVENT) throw incomplete();
    const hostname = textAt(texts, values[position++]);
    const timestamp = scalar(values[position++]);
    if (typeof timestamp !== "number") throw incomplete();
    const isOfTask = (bits & UUID) !== 0;
    // Objects that are made with their fields take less memory than those that get them one by one.
    const event: Record<string, unknown> = isOfTask
      ? { type, hostname, timestamp, uuid: textAt(texts, values[position++]) }
      : { type, hostname, timestamp };
    // Takes the lowest bit that is set, then clears it.
    for (let left = bits & ~(OF_EVERY_EVENT | UUID); left !== 0; left &= left - 1) {
      const column = COLUMNS[31 - Math.clz32(left & -left)];
      const value = values[position++];
      if (column !== undefined) event[column.field] = read(column.kind, value, texts);
    }
    events.push(event as unknown as CeleryEvent);
  }
  return events;
}

function incomplete(): PermanentError {
  return new PermanentError("batch payload has an event without hostname or timestamp");
}

function read(kind: FieldKind, value: unknown, texts: readonly unknown[]): unknown {
  if (kind === "value") return scalar(value);
  const text = textAt(texts, value);
  return kind === "text" ? text : numbersIn(text);
}

function textAt(texts: readonly unknown[], position: unknown): string {
  const text = typeof position === "number" ? texts[position] : undefined;
  if (typeof text !== "string") throw new PermanentError("batch payload refers to a text it does not have");
  return text;
}

function scalar(value: unknown): number | boolean {
  if (typeof value !== "number" && typeof value !== "boolean") throw new PermanentError("batch payload lacks a value");
  return value;
}

function numbersIn(text: string): readonly number[] {
  const numbers = text.split(" ").map((part) => (part === "" ? Number.NaN : Number(part)));
  if (!numbers.every(isQuantity)) throw new PermanentError("batch payload has loads that are not numbers");
  return numbers;
}

/** A finite number that is not negative. */
function isQuantity(value: unknown): value is number {
  return typeof value === "number" && value >= 0 && value < Infinity;
}

function asRecord(payload: unknown): Readonly<Record<string, unknown>> {
  if (typeof payload !== "object" || payload === null || Array.isArray(payload)) throw new PermanentError("batch payload is not an object");
  return payload as Record<string, unknown>;
}

/** Splits a batch. Both halves keep the marked tasks, because either half may contain their events, or be processed first. */
export function batchHalves(batch: EventBatch): EventBatch[] {
  return halves(batch.events).map((events) => ({ ...batch, events }));
}

/** The largest batch that the receiver can be configured to collect (`BATCH_MAX_EVENTS`), so exporters can handle it. */
export const MAX_PAYLOAD_EVENTS = 10_000;
/** Not less than what the receiver collects by default (`BATCH_MAX_BYTES`), so only a batch with a single large message exceeds it. */
export const MAX_PAYLOAD_CHARACTERS = 4_194_304;

/**
 * Writes a batch as payloads of limited size, usually one. A single message may contain a list of 100,000 events, or a few that are
 * megabytes long. Each payload has all marked tasks. A single event is never cut.
 */
export function* payloadsOf(batch: EventBatch, omits: ReadonlySet<string>): Generator<BatchPayload> {
  const { events } = batch;
  if (events.length <= MAX_PAYLOAD_EVENTS) {
    const payload = encodeBatch(batch, omits);
    if (events.length < 2 || totalLength(payload.texts) <= MAX_PAYLOAD_CHARACTERS) {
      yield payload;
      return;
    }
  }
  for (const half of batchHalves(batch)) yield* payloadsOf(half, omits);
}

function totalLength(texts: readonly string[]): number {
  let length = 0;
  for (const text of texts) length += text.length;
  return length;
}
