/**
 * Python literals (`args`, `kwargs`, `result` are `repr`s) to JSON, where nothing is lost by it.
 *
 * Either the JSON says exactly what the Python value was, or there is none and the text alone is kept. So not parsed are:
 * - what Celery has cut or hidden (`...`, `{...}`, a closing bracket that is missing; and strings that end in `...`, see python-string.ts);
 * - objects (`Decimal('1.0')`, `datetime.datetime(…)`, `<Foo object at 0x…>`), bytes, complex numbers, `Ellipsis`;
 * - nan, inf, and integers beyond 2^53 - 1, which JSON numbers do not hold exactly;
 * - dicts with two keys that are the same text (`{1: 'a', '1': 'b'}`), or with keys that are not scalars;
 * - commas where no `repr` writes them (Celery 4 did not escape quotes, so that `('a', 'b',)` may be one string);
 * - anything nested more than 100 levels or longer than 65,536 characters.
 *
 * Tuples, lists, sets and frozensets become arrays. Keys of dicts become their `str`, as JSON knows only such keys.
 */
import { readPythonString } from "./python-string.ts";
import { MAX_TEXT_LENGTH } from "./text.ts";

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };

export type PythonLiteral = { readonly ok: true; readonly value: JsonValue } | { readonly ok: false };

const MAX_DEPTH = 100;
const NOT_OK: PythonLiteral = { ok: false };
/** Instead of exceptions, which cost far more than the parsing. */
const UNREADABLE = Symbol("unreadable");
type Parsed = JsonValue | typeof UNREADABLE;

const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const SPACE = /[ \t\r\n]*/y;

/** Parses a `repr`. Linear in the length of the text; never throws. */
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

  /** After the first key and its colon. */
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

  /** The text of a key that was just read, from `start` on: a string as it is, another scalar as Python shows it. */
  #key(value: JsonValue, start: number): string | undefined {
    if (typeof value === "string") return value;
    if (typeof value === "object" && value !== null) return undefined;
    return this.#text.slice(start, this.#position).trim();
  }

  /** After the first item. */
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
