/** Scans a large JSON body before it is parsed, in linear time and without building anything. `JSON.parse` has no limits of its own. */
import { Census, SMALL_BODY } from "../model/normalise.ts";

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/**
 * Does not validate the JSON: everything before the first error is counted correctly, and nothing after it is ever built.
 *
 * @throws {TooLargeError} if it is nested too deeply, or has too many values or different keys.
 */
export function checkJsonBounds(json: string): void {
  if (json.length <= SMALL_BODY) return;
  const census = new Census();
  let depth = 0;
  let stringStart = 0;
  let stringEnd = 0;
  for (let position = 0; position < json.length; position += 1) {
    switch (json.charCodeAt(position)) {
      case QUOTE:
        stringStart = position + 1;
        stringEnd = closingQuote(json, stringStart);
        position = stringEnd;
        break;
      case OPEN_LIST:
      case OPEN_OBJECT:
        depth += 1;
        census.depth(depth);
        census.value();
        break;
      case CLOSE_LIST:
      case CLOSE_OBJECT:
        depth -= 1;
        break;
      case COMMA:
        census.value();
        break;
      case COLON:
        census.key(json.slice(stringStart, stringEnd));
        break;
    }
  }
}

/** The position of the quote that ends the string whose characters begin at `start`, after its opening quote; the end of the text if there is none. */
function closingQuote(json: string, start: number): number {
  for (let from = start; ;) {
    const quote = json.indexOf('"', from);
    if (quote === -1) return json.length;
    let backslashes = 0;
    while (json.charCodeAt(quote - 1 - backslashes) === BACKSLASH) backslashes += 1;
    if (backslashes % 2 === 0) return quote;
    from = quote + 1;
  }
}

// JSON as Python writes it: `json.dumps` allows NaN, Infinity and -Infinity, which JSON does not have.

const WORD = /NaN|Infinity/g;
const NOT_JSON = /-?\b(?:NaN|Infinity)\b/g;
const BYTE_ORDER_MARK = 0xfeff;

/**
 * Parses JSON; NaN and the infinities become null, which here means absent. Takes linear time.
 *
 * @throws {TooLargeError} if it exceeds a limit.
 * @throws {SyntaxError} if it is not JSON even so.
 */
export function parsePythonJson(text: string): unknown {
  const json = text.charCodeAt(0) === BYTE_ORDER_MARK ? text.slice(1) : text;
  checkJsonBounds(json);
  try {
    return JSON.parse(json);
  } catch {
    return JSON.parse(nullNonFinite(json));
  }
}

/** Replaces them only outside strings. */
function nullNonFinite(json: string): string {
  const parts: string[] = [];
  let copied = 0;
  let nextWord = wordAfter(json, 0);
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

/** The position of the next `NaN` or `Infinity`, in a string or not; the end of the text if there is none. */
function wordAfter(json: string, position: number): number {
  WORD.lastIndex = position;
  return WORD.exec(json)?.index ?? json.length;
}
