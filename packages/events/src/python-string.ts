/// <reference lib="es2024.string" />
/**
 * Python string literals as they stand in Celery's `args`, `kwargs` and `result`.
 *
 * Two writers, one look. Celery's `saferepr` (celery/utils/saferepr.py, `_format_chars`) writes the characters as they are, newlines and backslashes too,
 * between single quotes, and only `'` becomes `\'`. Python's own `repr` (of a user's `argsrepr`) escapes. In single quotes a backslash is therefore
 * ambiguous: `'C:\new'` is a path for the one and has a line break for the other. Only `\'`, which means the same to both, is read there. Double quotes are
 * always `repr`'s, so that all its escapes are read.
 */

export interface PythonString {
  readonly value: string;
  /** The position after the closing quote. */
  readonly end: number;
}

/** `saferepr` cuts long strings at the last space before its limit and ends them so; nothing tells such a string from one that ends so by itself. */
const CUT = "...";

const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  "\\": "\\",
  "'": "'",
  '"': '"',
  "\n": "",
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};
const CODE_ESCAPE = /x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})/y;

/**
 * Reads the string whose opening quote is at `start`. `undefined` where it does not end, is or may be cut, is ambiguous (see above), or holds a NUL or a
 * lone surrogate, which `jsonb` refuses.
 */
export function readPythonString(text: string, start: number): PythonString | undefined {
  const quote = text.charAt(start);
  const string = readPlain(text, start, quote) ?? readEscaped(text, start, quote);
  if (string === undefined) return undefined;
  const { value } = string;
  if (value.includes("\0") || !value.isWellFormed()) return undefined;
  return quote === "'" && value.endsWith(CUT) ? undefined : string;
}

/** The usual case: no backslash before the next quote. */
function readPlain(text: string, start: number, quote: string): PythonString | undefined {
  const close = text.indexOf(quote, start + 1);
  if (close === -1) return undefined;
  const value = text.slice(start + 1, close);
  return value.includes("\\") ? undefined : { value, end: close + 1 };
}

function readEscaped(text: string, start: number, quote: string): PythonString | undefined {
  const parts: string[] = [];
  let from = start + 1;
  for (let position = from; position < text.length; position += 1) {
    const character = text[position];
    if (character === quote) {
      parts.push(text.slice(from, position));
      return { value: parts.join(""), end: position + 1 };
    }
    if (character !== "\\") continue;
    const escape = quote === "'" ? readQuoteEscape(text, position) : readEscape(text, position);
    if (escape === undefined) return undefined;
    parts.push(text.slice(from, position), escape.value);
    from = escape.end;
    position = from - 1;
  }
  return undefined;
}

function readQuoteEscape(text: string, backslash: number): PythonString | undefined {
  return text[backslash + 1] === "'" ? { value: "'", end: backslash + 2 } : undefined;
}

/** `\N{…}` is not read: `repr` never writes it. */
function readEscape(text: string, backslash: number): PythonString | undefined {
  const simple = SIMPLE_ESCAPES[text.charAt(backslash + 1)];
  if (simple !== undefined) return { value: simple, end: backslash + 2 };
  CODE_ESCAPE.lastIndex = backslash + 1;
  const match = CODE_ESCAPE.exec(text);
  if (match === null) return undefined;
  const code = match[4] === undefined ? Number.parseInt(match[1] ?? match[2] ?? match[3] ?? "", 16) : Number.parseInt(match[4], 8);
  return code <= 0x10ffff ? { value: String.fromCodePoint(code), end: CODE_ESCAPE.lastIndex } : undefined;
}
