/** What the Store holds of one task, read back from its hash. */
import { parseDescription } from "./description.ts";
import type { Facts } from "./fact.ts";
import { parseFacts } from "./parse-facts.ts";

export interface TaskEntry {
  readonly name?: string;
  readonly queue?: string;
  readonly facts: Facts;
}

/** Reads an entry from its hash: fields and values in turn, as Redis replies them. */
export function parseTaskEntry(reply: readonly string[]): TaskEntry {
  const hash = new Map<string, string>();
  for (let index = 0; index + 1 < reply.length; index += 2) hash.set(reply[index] as string, reply[index + 1] as string);
  return { ...parseDescription(hash), facts: parseFacts(hash) };
}
