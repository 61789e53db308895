/**
 * Text made safe for every store behind us.
 *
 * It happens here, once, and not in the exporters: Postgres refuses NUL in `text` and in `jsonb`, and lone surrogates are not UTF-8, so that Redis,
 * Postgres and Datadog would each see another value. Task ids are compared between all of them.
 */
/// <reference lib="es2024.string" />

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
  return clean.slice(0, end);
}

function isHighSurrogate(code: number): boolean {
  return code >= 0xd800 && code <= 0xdbff;
}
