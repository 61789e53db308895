/** Reads YAML bodies (`event_serializer = "yaml"`): plain data only, and with limits, because this reader is slow and recursive, and aliases can multiply. */
import { Composer, Lexer, Parser, type Document, type ScalarTag } from "yaml";
import { MAX_DEPTH, TooLargeError } from "../model/normalise.ts";

/** Far more than a frame of 24 events with all of Celery's fields. */
export const MAX_YAML_LENGTH = 262_144;
/** A value in brackets or on a deeper line takes two or three entries of the parser's stack. */
const MAX_STACK = 3 * MAX_DEPTH;
/** Each alias costs a search among all nodes. PyYAML writes one if the same list or dict occurs twice; Celery's events have neither. */
const MAX_ALIASES = 100;
/** A frame of 24 events has 3,000; 25,000 take a fifth of a second. */
const MAX_LEXEMES = 25_000;

/**
 * Numbers as PyYAML writes them. Other texts that YAML 1.1 reads as numbers or instants (`1e5`, `0189`, `1:30`, `2026-11-22`), PyYAML either
 * quotes or writes plain for a *string*, such as a task id. Also, a `Date` would lose an instant's microseconds.
 */
const PYYAML_NUMBER: ScalarTag = {
  tag: "tag:yaml.org,2002:float",
  default: true,
  test: /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:e[-+][0-9]+)?)?$/,
  resolve: Number,
};

/**
 * @throws {TooLargeError} if it exceeds a limit.
 * @throws {Error} if it is not one YAML document of plain data.
 */
export function parseYaml(text: string): unknown {
  if (text.length > MAX_YAML_LENGTH) throw new TooLargeError(`a YAML body may have ${MAX_YAML_LENGTH} characters`);
  const documents: Iterable<Document.Parsed> = new Composer({
    version: "1.1",
    schema: "failsafe",
    customTags: ["null", "bool", PYYAML_NUMBER],
    merge: false,
    // The uniqueness check compares every key with every other.
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: "error",
  }).compose(tokensOf(text), true, text.length);
  const [document, ...others] = documents;
  if (document === undefined || others.length > 0) throw new Error("yaml: not one document");
  if (document.errors[0] !== undefined) throw document.errors[0];
  // The anchor counts too.
  return document.toJS({ maxAliasCount: MAX_ALIASES + 1 });
}

/**
 * Does what `Parser.parse` does, and watches its stack. The composer and the conversion recurse as deep as the document is nested, and V8 aborts
 * the process without an exception if a regular expression is first used near the end of the stack.
 */
function* tokensOf(text: string): ReturnType<Parser["parse"]> {
  const parser = new Parser();
  let lexemes = 0;
  let aliases = 0;
  for (const lexeme of new Lexer().lex(text)) {
    yield* parser.next(lexeme);
    if (parser.stack.length > MAX_STACK) throw new TooLargeError(`the body is nested more than ${MAX_DEPTH} levels`);
    if (++lexemes > MAX_LEXEMES) throw new TooLargeError(`a YAML body may have ${MAX_LEXEMES} tokens`);
    if (lexeme.startsWith("*") && ++aliases > MAX_ALIASES) throw new TooLargeError(`the body has more than ${MAX_ALIASES} aliases`);
  }
  yield* parser.end();
}
