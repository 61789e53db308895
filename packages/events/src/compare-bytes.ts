/** The order of strings by their UTF-8 bytes: as PostgreSQL's `COLLATE "C"`, and the only one that Redis' Lua can follow (its `<` obeys the locale). */

/** Negative where `a` comes first, 0 where they are equal. UTF-16 order, which is JavaScript's own, differs from it beyond U+FFFF. */
export function compareBytes(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b));
}
