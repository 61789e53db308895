/// <reference lib="es2024.string" />
/** Excerpts of rejected input, so that people can see what it was. */

const MAX_LENGTH = 2_048;
/** Base64 turns 3 bytes into 4 characters. */
const MAX_BYTES = (MAX_LENGTH / 4) * 3;

/** The beginning of a text, at most 2,048 characters. */
export function excerptOfText(text: string): string {
  return text.slice(0, MAX_LENGTH).toWellFormed();
}

/** The beginning of a binary body, in base64. */
export function excerptOfBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes.subarray(0, MAX_BYTES)).toString("base64");
}

/** The beginning of a decoded value, as JSON. */
export function excerptOfValue(value: unknown): string {
  try {
    return excerptOfText(JSON.stringify(value) ?? String(value));
  } catch {
    // Nested deeper than the stack.
    return Object.prototype.toString.call(value);
  }
}
