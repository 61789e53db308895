/** Datadog's tags, normalised here as Datadog would do it, so that what is sent is what is shown. */

/** Datadog cuts tags at 200 characters; bytes, so that a line's size is bounded. */
const MAX_TAG_BYTES = 200;

/**
 * Lower case; what is not a letter, a digit or one of `_-:./` becomes `_`; at most 200 bytes;
 * begins with a letter and does not end in a colon (docs.datadoghq.com/getting_started/tagging). Returns an empty string where nothing is left.
 */
export function normaliseTag(tag: string): string {
  const text = tag
    .toLowerCase()
    .replace(/[^\p{L}\p{N}_\-:./]/gu, "_")
    .replace(/^[^\p{L}]+/u, "")
    .replace(/:+$/, "_");
  return Buffer.byteLength(text) <= MAX_TAG_BYTES ? text : cut(text);
}

function cut(text: string): string {
  let size = 0;
  let end = 0;
  for (const character of text) {
    size += Buffer.byteLength(character);
    if (size > MAX_TAG_BYTES) break;
    end += character.length;
  }
  return text.slice(0, end);
}

/** Normalised `key:value` tags, remembered: there are few of them and each is needed for every task. */
export class TagCache {
  readonly #tags = new Map<string, string>();
  readonly #maxEntries: number;

  constructor(maxEntries = 10_000) {
    this.#maxEntries = maxEntries;
  }

  /** `unknown` where there is no value. */
  tag(key: string, value: string | undefined): string {
    const tag = `${key}:${value === undefined || value === "" ? "unknown" : value}`;
    const known = this.#tags.get(tag);
    if (known !== undefined) return known;
    const normalised = normaliseTag(tag);
    if (this.#tags.size >= this.#maxEntries) this.#tags.clear();
    this.#tags.set(tag, normalised);
    return normalised;
  }
}
