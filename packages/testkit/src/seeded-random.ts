/** Random numbers, orders and splits, reproducible by a seed. */

/** Numbers from 0 (inclusive) to 1 (exclusive) (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, key: random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}

/** Splits into batches of 1 to `maxSize`. */
export function randomBatches<T>(items: readonly T[], maxSize: number, random: () => number): T[][] {
  const batches: T[][] = [];
  for (let start = 0; start < items.length;) {
    const size = 1 + Math.floor(random() * maxSize);
    batches.push(items.slice(start, start + size));
    start += size;
  }
  return batches;
}
