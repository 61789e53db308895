/** One function per kind of field: from whatever a sender wrote to the type we promise, or `undefined` (null, missing or unusable). */
import { parseIsoTime } from "./iso-time.ts";
import { MAX_TIMESTAMP } from "./microseconds.ts";
import { MAX_NAME_LENGTH, MAX_TEXT_LENGTH, cleanText } from "./text.ts";

/** The longest task id accepted. Celery's own have 36 characters; a longer one is refused, as a cut one could be another task's. */
export const MAX_ID_LENGTH = 512;

const MAX_INT32 = 2_147_483_647;

export function textField(value: unknown): string | undefined {
  return typeof value === "string" ? cleanText(value, MAX_TEXT_LENGTH) : scalarText(unwrap(value), MAX_TEXT_LENGTH);
}

export function nameField(value: unknown): string | undefined {
  const name = typeof value === "string" ? cleanText(value, MAX_NAME_LENGTH) : scalarText(unwrap(value), MAX_NAME_LENGTH);
  return name === "" ? undefined : name;
}

/**
 * A task id: a string of 1 to 512 characters without NUL, a `uuid.UUID` as kombu 5.3 writes it, or a whole number, which Celery runs on Redis.
 * A number that JSON does not carry exactly could be another task's id, so it is refused.
 */
export function idField(value: unknown): string | undefined {
  const id = typeof value === "string" ? value : Number.isSafeInteger(value) ? String(value) : uuidText(unwrap(value));
  if (id === undefined || id === "" || id.length > MAX_ID_LENGTH || id.includes("\0")) return undefined;
  return cleanText(id, MAX_ID_LENGTH);
}

/** Seconds since the epoch within what we accept. */
export function timestampField(value: unknown): number | undefined {
  return typeof value === "number" && value >= 0 && value <= MAX_TIMESTAMP ? value : undefined;
}

/** `eta` and `expires`: ISO 8601. A number would be ambiguous (Celery also knows `expires` as seconds from now), so it is dropped. */
export function instantField(value: unknown): number | undefined {
  if (value === null || value === undefined) return undefined;
  const text = unwrap(value);
  return typeof text === "string" ? parseIsoTime(text) : undefined;
}

/** A finite number that is not negative, such as seconds or a count. */
export function quantityField(value: unknown): number | undefined {
  return typeof value === "number" && value >= 0 && value < Infinity ? value : undefined;
}

/** A whole number that Postgres' `integer` holds. */
export function countField(value: unknown): number | undefined {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= MAX_INT32 ? value : undefined;
}

export function flagField(value: unknown): boolean | undefined {
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

/** `uuid.UUID` comes as `{"hex": "…"}`; Python shows it with hyphens, and so do the task's other events. */
function uuidText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null || !("hex" in value)) return undefined;
  const match = typeof value.hex === "string" && /^(.{8})(.{4})(.{4})(.{4})(.{12})$/.exec(value.hex);
  return match ? match.slice(1).join("-") : undefined;
}
