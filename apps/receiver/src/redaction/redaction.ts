/** Hides what users put into their tasks before anything is stored: `args`, `kwargs`, `result`, `exception`, `traceback`. */
import { createHmac } from "node:crypto";
import type { CeleryEvent, Decoded, Rejected } from "@celery-metrics-exporter/celery";
import { REDACTED } from "@celery-metrics-exporter/pipeline";
import { RE2JS } from "re2js";
import { list, secret } from "@celery-metrics-exporter/runtime";
import { z } from "zod";

/** The fields that contain users' values, with their names in events. */
export const REDACTABLE_FIELDS = ["args", "kwargs", "result", "exception", "traceback"] as const;
export type RedactableField = (typeof REDACTABLE_FIELDS)[number];

/**
 * - `drop`: the field is removed, as if Celery had not sent it.
 * - `hash`: the value becomes `<hmac:…>` with 32 hexadecimal digits. Equal values have equal hashes, but the value cannot be guessed without
 *   the key. The form `<…>` is how Python shows objects without a repr of their own, so it is not parsed as a value or an exception's class.
 * - `patterns`: each match of an expression becomes `[redacted]`.
 */
export type RedactionRule =
  | { readonly mode: "drop" }
  | { readonly mode: "hash"; readonly key: string }
  | { readonly mode: "patterns"; readonly patterns: readonly string[] };

export type Redaction = (decoded: Decoded) => Decoded;

/** 128 bits, enough to make collisions practically impossible. */
const HASH_DIGITS = 32;
const HASHED = new RegExp(`^<hmac:[0-9a-f]{${HASH_DIGITS}}>$`);

/**
 * - `sent`: what a client or worker has just sent. Every value is hashed, even one that looks like a hash.
 * - `stored`: what may have been redacted before it was stored. A hash stays as it is, so that equal values still have equal hashes.
 */
export type RedactedInput = "sent" | "stored";

/**
 * Changes the events in place: the caller must be their only owner.
 *
 * @throws {Error} if a pattern is not an RE2 expression.
 */
export function createRedaction(fields: readonly RedactableField[], rule: RedactionRule, input: RedactedInput = "sent"): Redaction {
  const hide = hiderOf(rule, input);
  return ({ events, rejected }) => {
    for (const event of events) redactEvent(event, fields, hide);
    return { events, rejected: rejected.map(withoutInput) };
  };
}

/** The replacement of a text; undefined removes the field. */
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
 * RE2 runs in linear time for every expression and text. Whatever a task's sender writes cannot block the receiver, as it could with
 * JavaScript's expressions.
 */
function replacer(patterns: readonly string[]): Hide {
  const each = patterns.map((pattern) => RE2JS.compile(pattern));
  // Testing for a match is many times cheaper than replacing.
  const any = RE2JS.compile(patterns.map((pattern) => `(?:${pattern})`).join("|"));
  return (text) => (any.test(text) ? each.reduce((rest, pattern) => pattern.matcher(rest).replaceAll(REDACTED), text) : text);
}

/** Fields are texts, unless a stored event is from another release or was edited by hand. */
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
 * Fields cannot be identified in a message that could not be read, and a cut, escaped or binary excerpt hides its values from the patterns
 * too. So none of it is kept, and it cannot be decoded again.
 */
function withoutInput({ reason, detail, count }: Rejected): Rejected {
  return { reason, detail, count, raw: REDACTED };
}

/** Minimum length that makes it impossible to find a hash's value by trying keys. */
const MIN_KEY_CHARACTERS = 16;

const known: ReadonlySet<string> = new Set(REDACTABLE_FIELDS);

const fields = list(REDACTABLE_FIELDS.join()).superRefine((names, context) => {
  const unknown = names.filter((name) => !known.has(name));
  if (unknown.length > 0) {
    context.addIssue({ code: "custom", message: `unknown field ${unknown.join(", ")}; fields: ${REDACTABLE_FIELDS.join(", ")}` });
  }
});

const patterns = z
  .string()
  .default("")
  .superRefine((text, context) => {
    for (const [index, line] of linesOf(text).entries()) {
      const problem = patternProblem(line);
      if (problem !== undefined) context.addIssue({ code: "custom", message: `expression ${index + 1} cannot be used: ${problem}` });
    }
  });

function linesOf(text: string): string[] {
  return text.split(/\r?\n/).filter((line) => line !== "");
}

function patternProblem(pattern: string): string | undefined {
  try {
    return RE2JS.compile(pattern).test("") ? "it matches everywhere, because it matches the empty text" : undefined;
  } catch (thrown) {
    return thrown instanceof Error ? thrown.message : String(thrown);
  }
}

export const RedactionConfig = z.object({
  REDACT_MODE: z
    .enum(["off", "drop", "hash", "patterns"])
    .default("off")
    .describe(
      "How the receiver hides arguments, results and errors of tasks before anything is stored. `drop` removes them. `hash` stores an HMAC-SHA-256 instead, so that equal values can still be recognised. `patterns` replaces each match of REDACT_PATTERNS with `[redacted]`. In each of these modes, messages that cannot be read are not kept.",
    ),
  REDACT_FIELDS: fields.describe("Comma-separated names of the fields to which REDACT_MODE applies."),
  REDACT_PATTERNS: patterns.describe(
    "RE2 regular expressions, one per line (easiest in a file: `REDACT_PATTERNS_FILE`). RE2 has no look-around and no back-references, so no text takes long to check. The expressions apply to values as Celery sends them: Python's repr, cut at about 1,024 characters.",
  ),
  REDACT_HASH_KEY: secret(z.string().min(MIN_KEY_CHARACTERS, `must be at least ${MIN_KEY_CHARACTERS} characters`).optional()).describe(
    "Key of the HMAC. All receivers need the same key.",
  ),
});
export type RedactionConfig = z.output<typeof RedactionConfig>;

/**
 * What is wrong with the settings in combination; undefined if they are valid. A setting without effect would look as if something were hidden.
 *
 * @param settings as loaded; a setting that is wrong by itself has already been reported.
 */
function redactionProblem(settings: Readonly<Record<string, unknown>>): string | undefined {
  const { REDACT_MODE: mode, REDACT_FIELDS: names, REDACT_PATTERNS: text, REDACT_HASH_KEY: key } = settings;
  if (!Array.isArray(names) || typeof text !== "string") return undefined;
  const lines = linesOf(text);
  if (mode === "patterns" && lines.length === 0) return "REDACT_PATTERNS: is required, because REDACT_MODE is patterns.";
  if (mode === "hash" && key === undefined) return "REDACT_HASH_KEY: is required, because REDACT_MODE is hash.";
  if (mode !== "off" && names.length === 0) return "REDACT_FIELDS: must name a field, because REDACT_MODE is set.";
  if (mode !== "patterns" && lines.length > 0) return "REDACT_MODE: must be patterns, because REDACT_PATTERNS is set.";
  if (mode !== "hash" && key !== undefined) return "REDACT_MODE: must be hash, because REDACT_HASH_KEY is set.";
  if (mode === "off" && names.length < REDACTABLE_FIELDS.length) return "REDACT_MODE: is required, because REDACT_FIELDS is set.";
  return undefined;
}

/** The schema, which then also rejects combinations of redaction settings that do not fit together. */
export function withRedactionChecked<S extends z.ZodObject>(settings: S): S {
  return settings.refine((input) => redactionProblem(input) === undefined, {
    error: ({ input }) => redactionProblem(input as Readonly<Record<string, unknown>>),
    // Runs even if another setting is wrong, so that every problem is reported at once.
    when: () => true,
  });
}

/** Undefined if nothing has to be hidden. */
export function redactionOf(config: RedactionConfig, input: RedactedInput = "sent"): Redaction | undefined {
  const rule = ruleOf(config);
  return rule && createRedaction(config.REDACT_FIELDS as readonly RedactableField[], rule, input);
}

function ruleOf({ REDACT_MODE: mode, REDACT_HASH_KEY: key = "", REDACT_PATTERNS: text }: RedactionConfig): RedactionRule | undefined {
  switch (mode) {
    case "off":
      return undefined;
    case "drop":
      return { mode };
    case "hash":
      return { mode, key };
    case "patterns":
      return { mode, patterns: linesOf(text) };
  }
}
