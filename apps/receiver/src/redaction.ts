/** Hides what users put into their tasks, before anything is stored: `args`, `kwargs`, `result`, `exception`, `traceback`. */
import { createHmac } from "node:crypto";
import type { CeleryEvent, Decoded, Rejected } from "@celery-metrics-exporter/events";
import { REDACTED } from "@celery-metrics-exporter/pipeline";
import { RE2JS } from "re2js";

/** The fields that hold values of users, as events name them. */
export const REDACTABLE_FIELDS = ["args", "kwargs", "result", "exception", "traceback"] as const;
export type RedactableField = (typeof REDACTABLE_FIELDS)[number];

/**
 * - `drop`: the field is as if Celery had not sent it.
 * - `hash`: `<hmac:…>` with 32 hexadecimal digits instead: equal values can be told, but not what they were. Without the key nobody can try.
 *   As Python shows what has no text of its own, it is taken for no value and no exception's class.
 * - `patterns`: each match of an expression becomes `[redacted]`.
 */
export type RedactionRule =
  | { readonly mode: "drop" }
  | { readonly mode: "hash"; readonly key: string }
  | { readonly mode: "patterns"; readonly patterns: readonly string[] };

export type Redaction = (decoded: Decoded) => Decoded;

/** 128 bits: two values that differ do not meet. */
const HASH_DIGITS = 32;
const HASHED = new RegExp(`^<hmac:[0-9a-f]{${HASH_DIGITS}}>$`);

/**
 * - `sent`: what a client or worker has just sent. Every value is hashed, even one that looks like a hash.
 * - `stored`: what may have been redacted before it was stored. A hash stays as it is, so that equal values still have equal hashes.
 */
export type RedactedInput = "sent" | "stored";

/**
 * The events are changed in place: the caller must be their only owner.
 *
 * @throws {Error} when a pattern is not an expression of RE2.
 */
export function createRedaction(fields: readonly RedactableField[], rule: RedactionRule, input: RedactedInput = "sent"): Redaction {
  const hide = hiderOf(rule, input);
  return ({ events, rejected }) => {
    for (const event of events) redactEvent(event, fields, hide);
    return { events, rejected: rejected.map(withoutInput) };
  };
}

/** What takes the place of a text; undefined: nothing does. */
type Hide = (text: string) => string | undefined;

function hiderOf(rule: RedactionRule, input: RedactedInput): Hide {
  switch (rule.mode) {
    case "drop":
      return () => undefined;
    case "hash": {
      const hash = hasher(rule.key);
      return input === "sent" ? hash : (text) => (HASHED.test(text) ? text : hash(text));
    }
    case "patterns":
      return replacer(rule.patterns);
  }
}

function hasher(key: string): (text: string) => string {
  return (text) => `<hmac:${createHmac("sha256", key).update(text).digest("hex").slice(0, HASH_DIGITS)}>`;
}

/**
 * RE2's engine takes time in proportion to the text, whatever expression and text are: what a task's sender writes cannot hold up the
 * receiver, as it could with the expressions of JavaScript.
 */
function replacer(patterns: readonly string[]): Hide {
  const each = patterns.map((pattern) => RE2JS.compile(pattern));
  // To know that nothing matches is many times cheaper than to look for the matches.
  const any = RE2JS.compile(patterns.map((pattern) => `(?:${pattern})`).join("|"));
  return (text) => (any.test(text) ? each.reduce((rest, pattern) => pattern.matcher(rest).replaceAll(REDACTED), text) : text);
}

/** Texts, unless a stored event is of another release, or was edited by hand. */
type Fields = Partial<Record<RedactableField, unknown>>;

function redactEvent(event: CeleryEvent, fields: readonly RedactableField[], hide: Hide): void {
  const values = event as Fields;
  for (const field of fields) {
    const text = values[field];
    if (text === undefined) continue;
    const shown = hide(typeof text === "string" ? text : JSON.stringify(text));
    if (shown === undefined) delete values[field];
    else values[field] = shown;
  }
}

/**
 * In what could not be read nobody can tell the fields, and a cut, escaped or binary excerpt hides its values from the patterns too. So none
 * of it is kept, and it cannot be read again either.
 */
function withoutInput({ reason, detail, count }: Rejected): Rejected {
  return { reason, detail, count, raw: REDACTED };
}
