/**
 * Text as Postgres can store it: without NUL, which neither `text` nor `jsonb` holds, and without lone surrogates, which are not UTF-8.
 * Events are decoded so. Here it is made sure of, for one NUL in whatever else fills the queue would cost a batch its retries.
 */
import { cleanText } from "@celery-metrics-exporter/events";

/** Strips NUL, and replaces lone surrogates by U+FFFD. */
export function storableText(text: string): string {
  return cleanText(text, Number.POSITIVE_INFINITY);
}

/** As `storableText`; an empty text says nothing and counts as absent, so that SQL and JavaScript need not tell the two apart. */
export function storableOrAbsent(text: string | undefined): string | undefined {
  return text === undefined ? undefined : storableText(text) || undefined;
}
