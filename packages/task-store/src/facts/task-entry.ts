/** What the Store holds of one task, read back from its hash. */
import { readBase36 } from "./encoding.ts";
import { FactCollector, type Facts } from "./fact.ts";
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
 * @param from the index of the first field.
 * @param to the index after the last value.
 */
export function parseTaskEntry(reply: readonly unknown[], from = 0, to = reply.length): TaskEntry {
  const facts = new FactCollector();
  const texts = new TextCollector();
  let forgottenUntil: Map<string, number> | undefined;
  for (let index = from; index + 1 < to; index += 2) {
    const field = reply[index] as string;
    const value = reply[index + 1] as string;
    if (field[0] === "n") texts.add(field, value);
    else if (field[0] === "w") (forgottenUntil ??= new Map()).set(field.slice(1), readBase36(value, 0));
    else facts.add(field, value);
  }
  return { texts: texts.all(), facts, size: (to - from) / 2, forgottenUntil: forgottenUntil ?? NOTHING_FORGOTTEN };
}
