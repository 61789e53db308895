/** Finds misspelt settings. */
import { SETTING_NAMES } from "./setting-names.ts";

/** Largest edit distance at which a name counts as a misspelling. */
const MAX_TYPOS = 2;

const KNOWN: ReadonlySet<string> = new Set(SETTING_NAMES);

/** The setting that a variable sets: `NAME` for `NAME_FILE`. */
export function settingOf(variable: string): string {
  return variable.replace(/_FILE$/i, "");
}

/** Whether a variable is a setting of any role. */
export function isSetting(variable: string): boolean {
  return KNOWN.has(settingOf(variable));
}

/** Whether a variable is not a setting but looks like this one. Ignores short names, which are too similar. */
export function isMisspelt(variable: string, known: string): boolean {
  if (known.length < 8 || isSetting(variable)) return false;
  const name = settingOf(variable).toUpperCase();
  return Math.abs(name.length - known.length) <= MAX_TYPOS && editDistance(name, known) <= MAX_TYPOS;
}

/** The number of letters to change, insert or remove to turn one name into the other. */
export function editDistance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let index = 0; index < one.length; index += 1) {
    const next = [index + 1];
    for (let column = 0; column < other.length; column += 1) {
      const replaced = (row[column] ?? 0) + (one[index] === other[column] ? 0 : 1);
      next.push(Math.min(replaced, (row[column + 1] ?? 0) + 1, (next[column] ?? 0) + 1));
    }
    row = next;
  }
  return row[other.length] ?? 0;
}

/** The number of words that two names share. `_`, `-` and `.` separate words. */
export function sharedWords(one: string, other: string): number {
  const words = new Set(one.split(SEPARATORS));
  return other.split(SEPARATORS).filter((word) => words.has(word)).length;
}

const SEPARATORS = /[_.-]/;

/** The known name that shares the most words with this one. Ties go to the most similar spelling. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const rated = known.map((each) => ({
    each,
    shared: sharedWords(name, each),
    // A truncated name counts as exact.
    distance: each.startsWith(name) ? 0 : editDistance(name, each),
  }));
  return rated.toSorted((a, b) => b.shared - a.shared || a.distance - b.distance)[0]?.each;
}
