/** The settings of the redaction. */
import { list, secret } from "@celery-metrics-exporter/runtime";
import { RE2JS } from "re2js";
import { z } from "zod";
import {
  createRedaction,
  REDACTABLE_FIELDS,
  type RedactableField,
  type RedactedInput,
  type Redaction,
  type RedactionRule,
} from "./redaction.ts";

/** So that a hash cannot be undone by trying keys. */
const MIN_KEY_CHARACTERS = 16;

const known: ReadonlySet<string> = new Set(REDACTABLE_FIELDS);

const fields = list(REDACTABLE_FIELDS.join()).superRefine((names, context) => {
  const unknown = names.filter((name) => !known.has(name));
  if (unknown.length > 0) {
    context.addIssue({ code: "custom", message: `there is no field ${unknown.join(", ")}; fields: ${REDACTABLE_FIELDS.join(", ")}` });
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
    return RE2JS.compile(pattern).test("") ? "it matches everywhere, as it matches the empty text" : undefined;
  } catch (thrown) {
    return thrown instanceof Error ? thrown.message : String(thrown);
  }
}

export const RedactionConfig = z.object({
  REDACT_MODE: z
    .enum(["off", "drop", "hash", "patterns"])
    .default("off")
    .describe(
      "What the receiver does with what users put into tasks, before anything is stored. `drop`: leaves it out. `hash`: stores an HMAC-SHA-256 of it, so that equal values can still be recognised. `patterns`: replaces each match of REDACT_PATTERNS by `[redacted]`. With any of them, nothing is kept of messages that cannot be read.",
    ),
  REDACT_FIELDS: fields.describe("Comma-separated names of the fields that REDACT_MODE applies to."),
  REDACT_PATTERNS: patterns.describe(
    "Regular expressions of RE2, one on each line (simplest in a file: `REDACT_PATTERNS_FILE`). They have no look-around and no back-references, so that no text takes long. Applied to values as Celery sends them: Python's repr, cut at about 1,024 characters.",
  ),
  REDACT_HASH_KEY: secret(z.string().min(MIN_KEY_CHARACTERS, `must be at least ${MIN_KEY_CHARACTERS} characters`).optional()).describe(
    "Key of the HMAC; all receivers need the same.",
  ),
});
export type RedactionConfig = z.output<typeof RedactionConfig>;

/**
 * What is wrong with the settings together; undefined where nothing is. A setting without effect would look as if something were hidden.
 *
 * @param settings as loaded; where one of them is wrong by itself, that is told already.
 */
function redactionProblem(settings: Readonly<Record<string, unknown>>): string | undefined {
  const { REDACT_MODE: mode, REDACT_FIELDS: names, REDACT_PATTERNS: text, REDACT_HASH_KEY: key } = settings;
  if (!Array.isArray(names) || typeof text !== "string") return undefined;
  const lines = linesOf(text);
  if (mode === "patterns" && lines.length === 0) return "REDACT_PATTERNS: is required, since REDACT_MODE is patterns.";
  if (mode === "hash" && key === undefined) return "REDACT_HASH_KEY: is required, since REDACT_MODE is hash.";
  if (mode !== "off" && names.length === 0) return "REDACT_FIELDS: must name a field, since REDACT_MODE is set.";
  if (mode !== "patterns" && lines.length > 0) return "REDACT_MODE: must be patterns, since REDACT_PATTERNS is set.";
  if (mode !== "hash" && key !== undefined) return "REDACT_MODE: must be hash, since REDACT_HASH_KEY is set.";
  if (mode === "off" && names.length < REDACTABLE_FIELDS.length) return "REDACT_MODE: is required, since REDACT_FIELDS is set.";
  return undefined;
}

/** The schema, which then also refuses settings of redaction that do not go together. */
export function withRedactionChecked<S extends z.ZodObject>(settings: S): S {
  return settings.refine((input) => redactionProblem(input) === undefined, {
    error: ({ input }) => redactionProblem(input as Readonly<Record<string, unknown>>),
    // Also when another setting is wrong, so that every problem is told at once.
    when: () => true,
  });
}

/** Undefined where nothing is to be hidden. */
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
