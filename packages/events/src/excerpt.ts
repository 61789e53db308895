/// <reference lib="es2024.string" />
/** Excerpts of rejected input, so that people can see what it was, and so that what is whole can be read again. */

import { decodeText } from "./character-set.ts";
import { ownText } from "./text.ts";

/** The dead-letter queue keeps 10,000 of them. */
const MAX_LENGTH = 4_096;
/** Base64 turns 3 bytes into 4 characters. */
const MAX_BYTES = (MAX_LENGTH / 4) * 3;
const MAX_CHARACTER_BYTES = 4;
/** Stands for bytes that are no character. */
const REPLACEMENT = "\uFFFD";

export interface Excerpt {
  /** At most 4,096 characters. */
  readonly raw: string;
  /** Whether it is all there was. */
  readonly isWhole: boolean;
}

/** The beginning of a text. Keeps nothing of the rest alive. */
export function excerptOfText(text: string): Excerpt {
  const raw = text.slice(0, MAX_LENGTH).toWellFormed();
  const isWhole = raw === text;
  return { raw: isWhole ? raw : ownText(raw), isWhole };
}

/** The beginning of a binary body, in base64. */
export function excerptOfBytes(bytes: Uint8Array): Excerpt {
  return { raw: Buffer.from(bytes.subarray(0, MAX_BYTES)).toString("base64"), isWhole: bytes.length <= MAX_BYTES };
}

/** The beginning of bytes that should be text: `undefined` where the character set is unknown. */
export function excerptOfEncoded(bytes: Uint8Array, characterSet: string | undefined): Excerpt | undefined {
  const text = decodeText(bytes.subarray(0, MAX_LENGTH * MAX_CHARACTER_BYTES + MAX_CHARACTER_BYTES), characterSet);
  if (text === undefined) return undefined;
  const { raw, isWhole } = excerptOfText(text);
  return { raw, isWhole: isWhole && !raw.includes(REPLACEMENT) };
}

/** The beginning of a decoded value, as JSON. */
export function excerptOfValue(value: unknown): Excerpt {
  let json: string | undefined;
  try {
    json = JSON.stringify(value);
  } catch {
    // Nested deeper than the stack.
  }
  return json === undefined ? { raw: Object.prototype.toString.call(value), isWhole: false } : excerptOfText(json);
}
