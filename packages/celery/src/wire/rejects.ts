/// <reference lib="es2024.string" />
/** Collects the rejects of one frame in a limited number of entries. */
import type { Rejected } from "./frame.ts";
import type { Reject } from "../model/normalise.ts";
import { ownText } from "../python/text.ts";

/** Number of rejects with an entry of their own, so that a frame of a million numbers does not become a million dead letters. */
const MAX_DESCRIBED = 100;

export class Rejects {
  readonly entries: Rejected[] = [];
  readonly #folded = new Map<Reject, { count: number }>();

  add(refusal: Reject, item: unknown): void {
    const folded = this.#folded.get(refusal);
    if (folded !== undefined) {
      folded.count += 1;
      return;
    }
    const { reason, detail } = refusal;
    const { raw, isWhole } = excerptOfValue(item);
    if (this.entries.length < MAX_DESCRIBED) {
      this.entries.push({ reason, detail, raw, ...(isWhole && { readAs: "event" }), count: 1 });
      return;
    }
    // Without `readAs`, because the entry may come to count more than its `raw`.
    const entry = { reason, detail, raw, count: 1 };
    this.#folded.set(refusal, entry);
    this.entries.push(entry);
  }
}

// Excerpts of rejected input, for people to look at, and for decoding again if they are whole.

/** Maximum length: the dead-letter queue keeps 10,000 excerpts. */
const MAX_LENGTH = 4_096;
/** Base64 turns 3 bytes into 4 characters. */
const MAX_BYTES = (MAX_LENGTH / 4) * 3;
const MAX_CHARACTER_BYTES = 4;
/** The replacement for bytes that are not a character. */
const REPLACEMENT = "\uFFFD";

export interface Excerpt {
  /** At most 4,096 characters. */
  readonly raw: string;
  /** Whether it is the whole input. */
  readonly isWhole: boolean;
}

/** The beginning of a text. Does not keep the rest in memory. */
export function excerptOfText(text: string): Excerpt {
  const raw = text.slice(0, MAX_LENGTH).toWellFormed();
  const isWhole = raw === text;
  return { raw: isWhole ? raw : ownText(raw), isWhole };
}

/** The beginning of a binary body, in base64. */
export function excerptOfBytes(bytes: Uint8Array): Excerpt {
  return { raw: Buffer.from(bytes.subarray(0, MAX_BYTES)).toString("base64"), isWhole: bytes.length <= MAX_BYTES };
}

/** The beginning of bytes that should be text; `undefined` if the character set is unknown. */
export function excerptOfEncoded(bytes: Uint8Array, characterSet: string | undefined): Excerpt | undefined {
  const text = decodeText(bytes.subarray(0, MAX_LENGTH * MAX_CHARACTER_BYTES + MAX_CHARACTER_BYTES), characterSet);
  if (text === undefined) return undefined;
  const { raw, isWhole } = excerptOfText(text);
  return { raw, isWhole: isWhole && !raw.includes(REPLACEMENT) };
}

/** The beginning of a decoded value, as JSON. */
function excerptOfValue(value: unknown): Excerpt {
  let json: string | undefined;
  try {
    json = JSON.stringify(value);
  } catch {
    // Nested deeper than the stack.
  }
  return json === undefined ? { raw: Object.prototype.toString.call(value), isWhole: false } : excerptOfText(json);
}

// Converts bytes to text with the character set that a message names. Invalid bytes become U+FFFD: one bad byte must not cost a batch.

/** Kombu's names for encodings that are not about text (kombu/serialization.py). */
const UTF8_NAMES: ReadonlySet<string> = new Set(["", "utf-8", "utf8", "binary", "ascii", "us-ascii"]);
const LATIN1_NAMES: ReadonlySet<string> = new Set(["latin-1", "latin1", "iso-8859-1"]);

/** The text of `bytes`; `undefined` if the character set is unknown. Absent means UTF-8. */
export function decodeText(bytes: Uint8Array, characterSet: string | undefined): string | undefined {
  const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const name = (characterSet ?? "").toLowerCase().replaceAll("_", "-");
  if (UTF8_NAMES.has(name)) return buffer.toString("utf8");
  if (LATIN1_NAMES.has(name)) return buffer.toString("latin1");
  try {
    return new TextDecoder(name).decode(buffer);
  } catch {
    return undefined;
  }
}
