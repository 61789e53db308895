/** A look through a large JSON body before it is parsed: linear, and nothing is built. `JSON.parse` has no bounds of its own. */
import { Census, SMALL_BODY } from "./bounds.ts";

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/**
 * Does not validate the JSON: what comes before the first mistake is counted right, and nothing after it is ever built.
 *
 * @throws {TooLargeError} where it is nested too deeply, or has too many values or different keys.
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

/** The position of the quote that ends the string whose characters begin at `start`; that of the end where none does. */
export function closingQuote(json: string, start: number): number {
  for (let from = start; ;) {
    const quote = json.indexOf('"', from);
    if (quote === -1) return json.length;
    let backslashes = 0;
    while (quote - backslashes > start && json.charCodeAt(quote - 1 - backslashes) === BACKSLASH) backslashes += 1;
    if (backslashes % 2 === 0) return quote;
    from = quote + 1;
  }
}
