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

const MILLISECONDS = "2026-11-27T13:29:57.400".length;

/** Milliseconds since 1970, with the microseconds that `Date` leaves out. */
export function exactMs(instant: string): number {
  const micros = /^\d{1,3}/.exec(instant.slice(MILLISECONDS))?.[0] ?? "";
  return Date.parse(instant) + Number(micros.padEnd(3, "0")) / 1_000;
}
