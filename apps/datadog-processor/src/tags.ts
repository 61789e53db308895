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

/** Enough for 10,000 combinations of usual names. */
const MAX_CHARACTERS = 1_000_000;

/**
 * Adds a tag to others, and remembers the outcome. There are few combinations and each is needed for every task; and a text that is the same
 * object each time, rather than put together anew, is found in a map without being read. Clients may make up ever new values, so what is
 * remembered is bounded by its size.
 */
export class TagAppender {
  readonly #key: string;
  readonly #after: string;
  readonly #maxCharacters: number;
  readonly #outcomes = new Map<string, Map<string, string>>();
  #characters = 0;

  /** @param after what comes after the tag each time, comma included. */
  constructor(key: string, { after = "", maxCharacters = MAX_CHARACTERS } = {}) {
    this.#key = key;
    this.#after = after;
    this.#maxCharacters = maxCharacters;
  }

  /** The tags with `key:value`, normalised, as the last of them; `unknown` where there is no value. */
  append(tags: string, value = ""): string {
    const known = this.#outcomes.get(tags)?.get(value);
    if (known !== undefined) return known;
    const tag = normaliseTag(`${this.#key}:${value === "" ? "unknown" : value}`);
    const outcome = `${tags === "" ? "" : `${tags},`}${tag}${this.#after}`;
    this.#remember(tags, value, outcome);
    return outcome;
  }

  #remember(tags: string, value: string, outcome: string): void {
    if (this.#characters >= this.#maxCharacters) {
      this.#outcomes.clear();
      this.#characters = 0;
    }
    this.#characters += tags.length + value.length + outcome.length;
    const others = this.#outcomes.get(tags);
    if (others === undefined) this.#outcomes.set(tags, new Map([[value, outcome]]));
    else others.set(value, outcome);
  }
}
