/// <reference lib="es2024.string" />
/**
 * Text made safe for every store behind us.
 *
 * It happens here, once, and not in the exporters: Postgres refuses NUL in `text` and in `jsonb`, and lone surrogates are not UTF-8, so that Redis,
 * Postgres and Datadog would each see another value. Task ids are compared between all of them.
 */

/** Celery cuts `repr`s at 1,024 characters, but tracebacks not at all. */
export const MAX_TEXT_LENGTH = 65_536;
/** For names of tasks, queues and hosts. 512 characters of 4 bytes still fit an index entry of Postgres (2,704 bytes). */
export const MAX_NAME_LENGTH = 512;

const NUL = "\0";

/** A string without NULs and lone surrogates (which become U+FFFD), cut at `maxLength` without halving a character. */
export function cleanText(text: string, maxLength: number): string {
  if (text.length <= maxLength && text.isWellFormed() && !text.includes(NUL)) return text;
  const clean = (text.includes(NUL) ? text.replaceAll(NUL, "") : text).toWellFormed();
  if (clean.length <= maxLength) return clean;
  const end = isHighSurrogate(clean.charCodeAt(maxLength - 1)) ? maxLength - 1 : maxLength;
  return ownText(clean.slice(0, end));
}

/**
 * A copy that shares no memory with other strings. V8 does not copy what `slice`, `split` or a regular expression cuts out of a string: the
 * part refers to the whole, and 20 characters can keep megabytes alive. So copy a part that outlives its whole. The text must be well-formed.
 */
export function ownText(text: string): string {
  return Buffer.from(text).toString();
}

function isHighSurrogate(code: number): boolean {
  return code >= 0xd800 && code <= 0xdbff;
}

// The order of strings by their UTF-8 bytes: as PostgreSQL's `COLLATE "C"`, and the only one that Redis' Lua can follow (its `<` obeys the locale).

/** Negative where `a` comes first, 0 where they are equal. UTF-16 order, which is JavaScript's own, differs from it beyond U+FFFF. */
export function compareBytes(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b));
}
