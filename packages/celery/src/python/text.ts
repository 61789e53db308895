/// <reference lib="es2024.string" />
/**
 * Makes text safe for every store behind us.
 *
 * This happens once, here, and not in the exporters. Postgres refuses NUL in `text` and `jsonb`, and lone surrogates are not valid UTF-8, so
 * Redis, Postgres and Datadog would each store another value. Task ids are compared between all of them.
 */

/** Celery cuts `repr`s at 1,024 characters, but does not cut tracebacks. */
export const MAX_TEXT_LENGTH = 65_536;
/** For names of tasks, queues and hosts. 512 characters of 4 bytes still fit an index entry of Postgres (2,704 bytes). */
export const MAX_NAME_LENGTH = 512;

const NUL = "\0";

/** A string without NULs and lone surrogates (which become U+FFFD), cut at `maxLength` without halving a character. */
export function cleanText(text: string, maxLength: number): string {
  // Nearly every text. This is for speed: it is called for each text of each event.
  if (text.length <= maxLength && text.isWellFormed() && !text.includes(NUL)) return text;
  const clean = text.replaceAll(NUL, "").toWellFormed();
  if (clean.length <= maxLength) return clean;
  const cut = clean.slice(0, maxLength);
  return ownText(cut.isWellFormed() ? cut : cut.slice(0, -1));
}

/**
 * A copy that shares no memory with other strings. V8 does not copy what `slice`, `split` or a regular expression extracts from a string: the
 * part refers to the whole, so 20 characters can keep megabytes alive. Copy a part that outlives the whole. The text must be well-formed.
 */
export function ownText(text: string): string {
  return Buffer.from(text).toString();
}

// Orders strings by their UTF-8 bytes, like PostgreSQL's `COLLATE "C"`. Redis' Lua can follow no other order (its `<` depends on the locale).

/** Negative if `a` comes first, 0 if they are equal. UTF-16 order, which is JavaScript's own, differs beyond U+FFFF. */
export function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
