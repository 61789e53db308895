/** What the Store holds of one task, read back from its hash. */
import { readBase36 } from "./encoding.ts";
import { FactCollector, type Facts } from "./fact.ts";
import { isMarked } from "../scripts/state.ts";
import { TextCollector } from "./texts.ts";

export interface TaskEntry {
  /** Names and queues, by the keys that the facts contain. */
  readonly texts: ReadonlyMap<string, string>;
  readonly facts: Facts;
  /** How many fields the hash has. */
  readonly size: number;
  /** By hostname, the instant in microseconds up to which its facts are forgotten (see `forget.ts`). The key for all clients is empty. */
  readonly forgottenUntil: ReadonlyMap<string, number>;
}

const NOTHING_FORGOTTEN: ReadonlyMap<string, number> = new Map();

/**
 * Reads an entry from its hash.
 *
 * @param reply alternating fields and values, as in Redis' reply.
 */
export function parseTaskEntry(reply: readonly string[]): TaskEntry {
  const facts = new FactCollector();
  const hasMarks = isMarked(stateIn(reply));
  const texts = new TextCollector();
  let forgottenUntil: Map<string, number> | undefined;
  for (let index = 0; index + 1 < reply.length; index += 2) {
    const field = reply[index] as string;
    const value = reply[index + 1] as string;
    if (field[0] === "n") texts.add(field, value);
    else if (field[0] === "w") (forgottenUntil ??= new Map()).set(field.slice(1), readBase36(value, 0));
    else facts.add(field, value, hasMarks);
  }
  return { texts: texts.all(), facts, size: reply.length / 2, forgottenUntil: forgottenUntil ?? NOTHING_FORGOTTEN };
}

/** The value of `o`, which is mostly the first field. */
function stateIn(reply: readonly string[]): string {
  for (let index = 0; index + 1 < reply.length; index += 2) if (reply[index] === "o") return reply[index + 1] as string;
  return "";
}
