/** JSON as Python writes it: `json.dumps` lets NaN, Infinity and -Infinity through, which JSON does not have. */

import { checkJsonBounds, closingQuote } from "./json-bounds.ts";

const WORD = /NaN|Infinity/g;
const NOT_JSON = /-?\b(?:NaN|Infinity)\b/g;
const BYTE_ORDER_MARK = 0xfeff;

/**
 * Parses JSON; NaN and the infinities become null, which here means absent. Takes linear time.
 *
 * @throws {TooLargeError} past a bound.
 * @throws {SyntaxError} where it is not JSON even so.
 */
export function parsePythonJson(text: string): unknown {
  const json = text.charCodeAt(0) === BYTE_ORDER_MARK ? text.slice(1) : text;
  checkJsonBounds(json);
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
  let copied = 0;
  let nextWord = -1;
  for (let outside = 0; outside < json.length;) {
    const quote = json.indexOf('"', outside);
    const inside = quote === -1 ? json.length : quote;
    if (nextWord < outside) nextWord = wordAfter(json, outside);
    if (nextWord < inside) {
      parts.push(json.slice(copied, outside), json.slice(outside, inside).replaceAll(NOT_JSON, "null"));
      copied = inside;
    }
    outside = quote === -1 ? json.length : closingQuote(json, quote + 1) + 1;
  }
  parts.push(json.slice(copied));
  return parts.join("");
}

/** The position of the next `NaN` or `Infinity`, in a string or not; that of the end where there is none. */
function wordAfter(json: string, position: number): number {
  WORD.lastIndex = position;
  return WORD.exec(json)?.index ?? json.length;
}
