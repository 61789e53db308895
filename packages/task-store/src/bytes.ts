/** The order of strings by their UTF-8 bytes, which is the only one that JavaScript and Redis' Lua can agree on (Lua's `<` follows the locale). */

/** Negative where `a` comes first, 0 where they are equal. */
export function compareBytes(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** Cuts a string into at most `maxParts` pieces of at most `maxBytes` UTF-8 bytes, never within a character; what is left over is dropped. */
export function splitUtf8(text: string, maxBytes: number, maxParts: number): string[] {
  if (text.length * 3 <= maxBytes || Buffer.byteLength(text) <= maxBytes) return [text];
  const parts: string[] = [];
  let part = "";
  let size = 0;
  for (const character of text) {
    const bytes = Buffer.byteLength(character);
    if (size + bytes > maxBytes) {
      parts.push(part);
      if (parts.length === maxParts) return parts;
      part = "";
      size = 0;
    }
    part += character;
    size += bytes;
  }
  return [...parts, part];
}
