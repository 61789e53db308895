/// <reference lib="es2024.string" />
/**
 * Converts Python literals (`args`, `kwargs`, `result` are `repr`s) to JSON if nothing is lost.
 *
 * Either the JSON represents the Python value exactly, or there is no JSON and only the text is kept. So the following is not parsed:
 * - text that Celery has cut or hidden (`...`, `{...}`, a missing closing bracket; and strings that end in `...`, see below);
 * - objects (`Decimal('1.0')`, `datetime.datetime(…)`, `<Foo object at 0x…>`), bytes, complex numbers, `Ellipsis`;
 * - nan, inf, and integers beyond 2^53 - 1, which JSON numbers do not represent exactly;
 * - dicts with two keys that have the same text (`{1: 'a', '1': 'b'}`), or with keys that are not scalars;
 * - commas where no `repr` writes them (Celery 4 did not escape quotes, so `('a', 'b',)` may be one string);
 * - anything nested more than 100 levels or longer than 65,536 characters.
 *
 * Tuples, lists, sets and frozensets become arrays. Keys of dicts become their `str`, because JSON has only text keys.
 */
import { MAX_TEXT_LENGTH } from "./text.ts";

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };

export type PythonLiteral = { readonly ok: true; readonly value: JsonValue } | { readonly ok: false };

const MAX_DEPTH = 100;
const NOT_OK: PythonLiteral = { ok: false };
/** Returned instead of an exception, which would cost far more than the parsing. */
const UNREADABLE = Symbol("unreadable");
type Parsed = JsonValue | typeof UNREADABLE;

const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const SPACE = /[ \t\r\n]*/y;

/** Parses a `repr` in linear time; never throws. */
export function parsePythonLiteral(text: string): PythonLiteral {
  if (text.length > MAX_TEXT_LENGTH) return NOT_OK;
  const value = new LiteralParser(text).parse();
  return value === UNREADABLE ? NOT_OK : { ok: true, value };
}

/** Recursive descent over one text. */
class LiteralParser {
  readonly #text: string;
  #position = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Parsed {
    const value = this.#value();
    this.#skipSpace();
    return this.#position === this.#text.length ? value : UNREADABLE;
  }

  #value(): Parsed {
    this.#skipSpace();
    switch (this.#text[this.#position]) {
      case "'":
      case '"':
        return this.#string();
      case "(":
        return this.#nested(() => this.#sequence(")"));
      case "[":
        return this.#nested(() => this.#sequence("]"));
      case "{":
        return this.#nested(() => this.#dictOrSet());
      case "T":
        return this.#word("True", true);
      case "F":
        return this.#word("False", false);
      case "N":
        return this.#word("None", null);
      case "s":
        return this.#word("set()", []);
      case "f":
        return this.#nested(() => this.#frozenset());
      default:
        return this.#number();
    }
  }

  #nested(read: () => Parsed): Parsed {
    if (this.#depth === MAX_DEPTH) return UNREADABLE;
    this.#depth += 1;
    const value = read();
    this.#depth -= 1;
    return value;
  }

  /** A tuple or a list. */
  #sequence(close: ")" | "]"): Parsed {
    this.#position += 1;
    const items: JsonValue[] = [];
    if (this.#accept(close)) return items;
    for (;;) {
      const item = this.#value();
      if (item === UNREADABLE) return UNREADABLE;
      items.push(item);
      const isSingleTuple = close === ")" && items.length === 1;
      if (!this.#accept(",")) return this.#accept(close) && !isSingleTuple ? items : UNREADABLE;
      if (isSingleTuple && this.#accept(close)) return items;
    }
  }

  #dictOrSet(): Parsed {
    this.#position += 1;
    if (this.#accept("}")) return {};
    const start = this.#position;
    const first = this.#value();
    if (first === UNREADABLE) return UNREADABLE;
    const key = this.#key(first, start);
    return this.#accept(":") ? this.#dict(key) : this.#set(first);
  }

  /** Continues after the first key and its colon. */
  #dict(firstKey: string | undefined): Parsed {
    const entries: Record<string, JsonValue> = {};
    let key = firstKey;
    while (key !== undefined && !Object.hasOwn(entries, key)) {
      const value = this.#value();
      if (value === UNREADABLE) return UNREADABLE;
      setOwn(entries, key, value);
      if (!this.#accept(",")) return this.#accept("}") ? entries : UNREADABLE;
      this.#skipSpace();
      const start = this.#position;
      const next = this.#value();
      if (next === UNREADABLE) return UNREADABLE;
      key = this.#key(next, start);
      if (!this.#accept(":")) return UNREADABLE;
    }
    return UNREADABLE;
  }

  /** The text of a key that was just read, starting at `start`: a string unchanged, another scalar as Python shows it. */
  #key(value: JsonValue, start: number): string | undefined {
    if (typeof value === "string") return value;
    if (typeof value === "object" && value !== null) return undefined;
    return this.#text.slice(start, this.#position).trim();
  }

  /** Continues after the first item. */
  #set(first: JsonValue): Parsed {
    const items = [first];
    while (this.#accept(",")) {
      const item = this.#value();
      if (item === UNREADABLE) return UNREADABLE;
      items.push(item);
    }
    return this.#accept("}") ? items : UNREADABLE;
  }

  #frozenset(): Parsed {
    if (this.#word("frozenset(", null) === UNREADABLE) return UNREADABLE;
    if (this.#accept(")")) return [];
    const items = this.#text[this.#position] === "{" ? this.#dictOrSet() : UNREADABLE;
    return Array.isArray(items) && this.#accept(")") ? items : UNREADABLE;
  }

  #string(): Parsed {
    const string = readPythonString(this.#text, this.#position);
    if (string === undefined) return UNREADABLE;
    this.#position = string.end;
    return string.value;
  }

  #number(): Parsed {
    NUMBER.lastIndex = this.#position;
    const match = NUMBER.exec(this.#text);
    if (match === null) return UNREADABLE;
    this.#position = NUMBER.lastIndex;
    // JSON has no -0: adding 0 makes it 0.
    const value = Number(match[0]) + 0;
    const isInteger = match[1] === undefined && match[2] === undefined;
    return (isInteger ? Number.isSafeInteger(value) : Number.isFinite(value)) ? value : UNREADABLE;
  }

  #word(word: string, value: JsonValue): Parsed {
    if (!this.#text.startsWith(word, this.#position)) return UNREADABLE;
    this.#position += word.length;
    return value;
  }

  /** Skips a character if it comes next. */
  #accept(character: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#position] !== character) return false;
    this.#position += 1;
    return true;
  }

  #skipSpace(): void {
    if (this.#text.charCodeAt(this.#position) > 0x20) return;
    SPACE.lastIndex = this.#position;
    SPACE.exec(this.#text);
    this.#position = SPACE.lastIndex;
  }
}

/** `entries["__proto__"] = …` would set the prototype. */
function setOwn(entries: Record<string, JsonValue>, key: string, value: JsonValue): void {
  if (key === "__proto__") Object.defineProperty(entries, key, { value, enumerable: true, configurable: true, writable: true });
  else entries[key] = value;
}

/**
 * Python string literals in Celery's `args`, `kwargs` and `result`.
 *
 * Two writers produce the same form. Celery's `saferepr` (celery/utils/saferepr.py, `_format_chars`) writes all characters, even newlines and
 * backslashes, unchanged between single quotes, and only `'` becomes `\'`. Python's own `repr` (of a user's `argsrepr`) escapes. So a backslash
 * in single quotes is ambiguous: `'C:\new'` is a path in one and contains a line break in the other. There only `\'` is read, which means the
 * same in both. Only `repr` writes double quotes, so all escapes in them are read.
 */

interface PythonString {
  readonly value: string;
  /** The position after the closing quote. */
  readonly end: number;
}

/** `saferepr` cuts long strings at the last space before its limit and adds this; a string that ends like this by itself looks the same. */
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
 * Reads the string whose opening quote is at `start`. `undefined` if it does not end, is or may be cut, is ambiguous (see above), or contains a
 * NUL or a lone surrogate, which `jsonb` refuses.
 */
function readPythonString(text: string, start: number): PythonString | undefined {
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

/** `\N{…}` is not read, because `repr` never writes it. */
function readEscape(text: string, backslash: number): PythonString | undefined {
  const simple = SIMPLE_ESCAPES[text.charAt(backslash + 1)];
  if (simple !== undefined) return { value: simple, end: backslash + 2 };
  CODE_ESCAPE.lastIndex = backslash + 1;
  const match = CODE_ESCAPE.exec(text);
  if (match === null) return undefined;
  const code = match[4] === undefined ? Number.parseInt(match[1] ?? match[2] ?? match[3] ?? "", 16) : Number.parseInt(match[4], 8);
  return code <= 0x10ffff ? { value: String.fromCodePoint(code), end: CODE_ESCAPE.lastIndex } : undefined;
}
