/** JSON as Python writes it: `json.dumps` lets NaN, Infinity and -Infinity through, which JSON does not have. */

const NOT_JSON = /-?\b(?:NaN|Infinity)\b/g;
const BYTE_ORDER_MARK = 0xfeff;

/**
 * Parses JSON; NaN and the infinities become null, which here means absent. Takes linear time.
 * @throws SyntaxError where it is not JSON even so.
 */
export function parsePythonJson(text: string): unknown {
  const json = text.charCodeAt(0) === BYTE_ORDER_MARK ? text.slice(1) : text;
  try {
    return JSON.parse(json);
  } catch (error) {
    if (!json.includes("NaN") && !json.includes("Infinity")) throw error;
    return JSON.parse(nullNonFinite(json));
  }
}

/** Replaces what is outside of strings only. */
function nullNonFinite(json: string): string {
  const parts: string[] = [];
  let outside = 0;
  while (outside < json.length) {
    const quote = json.indexOf('"', outside);
    const inside = quote === -1 ? json.length : quote;
    parts.push(json.slice(outside, inside).replaceAll(NOT_JSON, "null"));
    outside = quote === -1 ? json.length : endOfString(json, quote);
    parts.push(json.slice(inside, outside));
  }
  return parts.join("");
}

/** The position after the closing quote of the string that opens at `quote`. */
function endOfString(json: string, quote: number): number {
  let position = quote + 1;
  while (position < json.length) {
    const character = json[position];
    if (character === '"') return position + 1;
    position += character === "\\" ? 2 : 1;
  }
  return json.length;
}
