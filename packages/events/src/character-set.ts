/** Bytes to text by the character set a message names. Bytes that are not of it become U+FFFD: one bad byte must not cost a batch. */

/** What kombu calls an encoding that says nothing about text (kombu/serialization.py). */
const UTF8_NAMES: ReadonlySet<string> = new Set(["", "utf-8", "utf8", "binary", "ascii", "us-ascii"]);
const LATIN1_NAMES: ReadonlySet<string> = new Set(["latin-1", "latin1", "iso-8859-1"]);

/** The text of `bytes`; `undefined` where the character set is unknown. Absent means UTF-8. */
export function decodeText(bytes: Uint8Array, characterSet: string | undefined): string | undefined {
  const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (characterSet === undefined || characterSet === "utf-8") return buffer.toString("utf8");
  const name = characterSet.toLowerCase().replaceAll("_", "-");
  if (UTF8_NAMES.has(name)) return buffer.toString("utf8");
  if (LATIN1_NAMES.has(name)) return buffer.toString("latin1");
  try {
    return new TextDecoder(name).decode(buffer);
  } catch {
    return undefined;
  }
}
