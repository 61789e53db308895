/** Texts by the size of their UTF-8 bytes. */

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
