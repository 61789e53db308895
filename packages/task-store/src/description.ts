/**
 * A task's name and queue. Several events may tell them, and differ: the earliest `task-sent` decides, without one the earliest
 * `task-received` (whose name may be a shadow, celery/worker/request.py, and which has no queue).
 *
 * One number, the key, orders them, and the smaller wins: a `task-sent` has its microseconds, a `task-received` its microseconds plus
 * `MAX_TIMESTAMP`, so it comes after any `task-sent`. `MAX_TIMESTAMP` is such that both fit a double, in which Lua compares them. Equal keys
 * fall to the byte-wise smaller name, then queue. An event without a name describes nothing.
 *
 * In the hash: `k` the key, `n` the name, `q` the queue; longer than 60 bytes they go on in `n1`…`n3`, `q1`…`q3`, because one value over 64
 * bytes turns a Redis hash from a listpack into a table and triples it. The rest is cut off: Datadog keeps 200 characters of a tag.
 */
/// <reference lib="es2024.string" />
import { MAX_TIMESTAMP, compareBytes, toMicroseconds, type TaskEvent } from "@celery-metrics-exporter/events";
import { splitUtf8 } from "./split-utf8.ts";

export interface Description {
  readonly key: number;
  readonly name: string;
  readonly queue?: string;
}

const MAX_PART_BYTES = 60;
const MAX_PARTS = 4;
const MAX_MICROSECONDS = MAX_TIMESTAMP * 1e6;

const NAME_FIELDS = ["n", "n1", "n2", "n3"] as const;
const QUEUE_FIELDS = ["q", "q1", "q2", "q3"] as const;

/** What this event tells, if anything. */
export function descriptionOf(event: TaskEvent): Description | undefined {
  if (event.type !== "task-sent" && event.type !== "task-received") return undefined;
  if (event.name === undefined || event.name === "") return undefined;
  const name = cut(event.name);
  const at = Math.min(Math.max(toMicroseconds(event.timestamp), 0), MAX_MICROSECONDS);
  if (event.type === "task-received") return { key: at + MAX_MICROSECONDS, name };
  return event.queue === undefined || event.queue === "" ? { key: at, name } : { key: at, name, queue: cut(event.queue) };
}

/**
 * As much as is kept, and of that what UTF-8 can hold (no half of a surrogate pair). Done before anything is compared, so that every place
 * compares the same text.
 */
function cut(text: string): string {
  const parts = splitUtf8(text.toWellFormed(), MAX_PART_BYTES, MAX_PARTS);
  return parts.length === 1 ? (parts[0] ?? "") : parts.join("");
}

/** The one of two that stands. */
export function betterDescription(a: Description | undefined, b: Description | undefined): Description | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  if (a.key !== b.key) return a.key < b.key ? a : b;
  const order = compareBytes(a.name, b.name) || compareBytes(a.queue ?? "", b.queue ?? "");
  return order <= 0 ? a : b;
}

/** Field and value in turn, without the key. */
export function descriptionFields(description: Description): string[] {
  const fields: string[] = [];
  spread(NAME_FIELDS, description.name, fields);
  if (description.queue !== undefined) spread(QUEUE_FIELDS, description.queue, fields);
  return fields;
}

function spread(names: readonly string[], text: string, fields: string[]): void {
  for (const [index, part] of splitUtf8(text, MAX_PART_BYTES, MAX_PARTS).entries()) fields.push(names[index] ?? "", part);
}
