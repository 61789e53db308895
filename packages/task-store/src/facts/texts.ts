/**
 * Names and queues, stored once per task. The facts of each attempt refer to them.
 *
 * A text's key is a hash of the text, so every process uses the same key, and adding a text is adding to a set, as with facts. The field is
 * `n<key>`. A text of more than 60 bytes continues in `n<key>1`, `n<key>2` and `n<key>3`, because a single value over 64 bytes turns a
 * Redis hash from a listpack into a table and triples its size. The rest is cut off: Datadog keeps 200 characters of a tag.
 */
/// <reference lib="es2024.string" />
import { hash32, ownCopy, remembering, splitUtf8 } from "./encoding.ts";

/** A name or queue as it is stored. */
export interface StoredText {
  readonly key: string;
  /** Alternating fields and values. */
  readonly fields: readonly string[];
}

const MAX_PART_BYTES = 60;
const MAX_PARTS = 4;

const KEY_LENGTH = 4;
const KEYS = 36 ** KEY_LENGTH;

const MAX_KNOWN_TEXTS = 10_000;

/**
 * How a text is stored. A key only has to be unique within one task. Two different texts get the same key once in 1.7 million tasks; either
 * of them may then be shown. There are few names and queues, and every attempt has both.
 */
export const storedText = remembering(MAX_KNOWN_TEXTS, (text): StoredText => {
  // UTF-8 cannot encode half of a surrogate pair.
  const parts = splitUtf8(text.toWellFormed(), MAX_PART_BYTES, MAX_PARTS);
  const key = (hash32(parts.join("")) % KEYS).toString(36).padStart(KEY_LENGTH, "0");
  return { key, fields: parts.flatMap((part, index) => [`n${key}${index === 0 ? "" : index}`, part]) };
});

/** The fields in which a text is stored. */
export function fieldsOf(text: string): string[] {
  return storedText(text).fields.filter((_, index) => index % 2 === 0);
}

/** Reassembles texts from their fields, which may come in any order. */
export class TextCollector {
  readonly #parts = new Map<string, string[]>();

  /** Adds a field that begins with `n`. */
  add(field: string, value: string): void {
    const key = field.slice(1, KEY_LENGTH + 1);
    const parts = this.#parts.get(key) ?? [];
    parts[Number(field.charAt(KEY_LENGTH + 1))] = value;
    this.#parts.set(key, parts);
  }

  /** The texts by key. */
  all(): ReadonlyMap<string, string> {
    return new Map([...this.#parts].map(([key, parts]) => [key, ownCopy(parts.join(""))]));
  }
}
