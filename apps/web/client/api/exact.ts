/** JSON whose numbers keep all their digits. */

/** A number that JavaScript would round. */
export class ExactNumber {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
/** PostgreSQL stores no text with this character, so no value can look like a mark. */
const MARK = "\u0000";

/** @throws {SyntaxError} if it is not JSON. */
export function parseExact(json: string): unknown {
  const marked = json.replace(TOKEN, (token) => (token.startsWith('"') || String(Number(token)) === token ? token : `"\\u0000${token}"`));
  return JSON.parse(marked, (_key, value: unknown) =>
    typeof value === "string" && value.startsWith(MARK) ? new ExactNumber(value.slice(1)) : value,
  );
}
