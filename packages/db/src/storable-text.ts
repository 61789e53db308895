/** Text as Postgres can store it: without NUL, which neither `text` nor `jsonb` holds, and without lone surrogates, which are not UTF-8. */

/** ES2024, in Node.js since 20; TypeScript's `ES2023` library does not name them yet. */
interface UnicodeString {
  isWellFormed(): boolean;
  toWellFormed(): string;
}

/** Strips NUL, and replaces lone surrogates by U+FFFD. */
export function storableText(text: string): string {
  const withoutNul = text.includes("\0") ? text.replaceAll("\0", "") : text;
  const unicode = withoutNul as unknown as UnicodeString;
  return unicode.isWellFormed() ? withoutNul : unicode.toWellFormed();
}

/** As `storableText`; an empty text says nothing and counts as absent, so that SQL and JavaScript need not tell the two apart. */
export function storableOrAbsent(text: string | undefined): string | undefined {
  return text === undefined ? undefined : storableText(text) || undefined;
}

/** Makes every string and key in a JSON value storable. */
export function storableJson(value: unknown): unknown {
  if (typeof value === "string") return storableText(value);
  if (Array.isArray(value)) return value.map(storableJson);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [storableText(key), storableJson(inner)]));
}
