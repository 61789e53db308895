/** Facts in order of time. */

interface Timed {
  readonly at: number;
  readonly field: string;
}

/** Sorted by instant. Mostly they are already. */
export function inOrder<F extends Timed>(facts: readonly F[]): readonly F[] {
  for (let index = 1; index < facts.length; index += 1) {
    if (byInstant(facts[index - 1] as F, facts[index] as F) > 0) return facts.toSorted(byInstant);
  }
  return facts;
}

/** The latest fact that is not after an instant. `facts` must be in order. */
export function latestNotAfter<F extends Timed>(facts: readonly F[], at: number): F | undefined {
  return facts[countNotAfter(facts, at) - 1];
}

/** How many facts are not after an instant. `facts` must be in order. */
export function countNotAfter(facts: readonly Timed[], at: number): number {
  let from = 0;
  let to = facts.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if ((facts[middle]?.at ?? 0) <= at) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** Compares by instant, then by field, so that the result does not depend on the order of a set. */
export function byInstant(a: Timed, b: Timed): number {
  return a.at - b.at || (a.field < b.field ? -1 : a.field > b.field ? 1 : 0);
}

/** Groups items by a key, in their order. */
export function groupBy<T, K>(items: Iterable<T>, keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const others = groups.get(key);
    if (others === undefined) groups.set(key, [item]);
    else others.push(item);
  }
  return groups;
}
