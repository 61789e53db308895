/** Which known name was meant. */

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
