/** Reads an event that we stored as JSON: another release may have written it, or somebody may have edited it. */
import type { CeleryEvent } from "./event.ts";
import { idField } from "./fields.ts";
import { Refusal, normalise } from "./normalise.ts";

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
