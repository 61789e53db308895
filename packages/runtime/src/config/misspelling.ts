/** Which of our settings a variable may be meant for. */
import { SETTING_NAMES } from "./setting-names.ts";

/** A name this close to one of ours is a misspelling of it. */
const MAX_TYPOS = 2;

const KNOWN: ReadonlySet<string> = new Set(SETTING_NAMES);

/** The setting's name in a variable's: `NAME_FILE` stands for `NAME`. */
export function settingOf(variable: string): string {
  return variable.replace(/_FILE$/i, "");
}

/** Whether a variable is a setting of any role. */
export function isSetting(variable: string): boolean {
  return KNOWN.has(settingOf(variable));
}

/** Whether a variable that is no setting looks like this one. Short names are too easily alike. */
export function isMisspelt(variable: string, known: string): boolean {
  if (known.length < 8 || isSetting(variable)) return false;
  const name = settingOf(variable).toUpperCase();
  return Math.abs(name.length - known.length) <= MAX_TYPOS && editDistance(name, known) <= MAX_TYPOS;
}

// Which known name was meant.

/** Letters to change, insert or leave out, to make one of the other. */
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

/** How many words two names have in common. Words are separated by `_`, `-` or `.`. */
export function sharedWords(one: string, other: string): number {
  const words = new Set(one.split(SEPARATORS));
  return other.split(SEPARATORS).filter((word) => words.has(word)).length;
}

const SEPARATORS = /[_.-]/;

/** The known name that shares most words with this one; among those, the one spelt most like it. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const rated = known.map((each) => ({
    each,
    shared: sharedWords(name, each),
    // What is only cut off costs nothing.
    distance: each.startsWith(name) ? 0 : editDistance(name, each),
  }));
  return rated.toSorted((a, b) => b.shared - a.shared || a.distance - b.distance)[0]?.each;
}
