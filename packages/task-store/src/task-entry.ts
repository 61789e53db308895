/** What the Store holds of one task, read back from its hash. */
import type { Facts } from "./fact.ts";
import { FactCollector } from "./parse-fact.ts";

export interface TaskEntry {
  /** Undefined where no event told it yet. */
  readonly name: string | undefined;
  readonly queue: string | undefined;
  readonly facts: Facts;
}

/**
 * Reads an entry from its hash.
 *
 * @param reply fields and values in turn, as Redis replies them.
 * @param from the index of the first field.
 */
export function parseTaskEntry(reply: readonly unknown[], from = 0): TaskEntry {
  const facts = new FactCollector();
  let name = "";
  let queue = "";
  const parts: [field: string, value: string][] = [];
  for (let index = from; index + 1 < reply.length; index += 2) {
    const field = reply[index] as string;
    const value = reply[index + 1] as string;
    if (field === "n") name = value;
    else if (field === "q") queue = value;
    else if (field[0] === "n" || field[0] === "q") parts.push([field, value]);
    else facts.add(field, value);
  }
  for (const [field, value] of parts.sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (field[0] === "n") name += value;
    else queue += value;
  }
  return { name: name || undefined, queue: queue || undefined, facts };
}
