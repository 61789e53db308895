/** Random numbers, orders and splits, reproducible by a seed. */
import { Random } from "@celery-metrics-exporter/celery/testing/random";

/** Numbers from 0 (inclusive) to 1 (exclusive). */
export function seededRandom(seed: number): () => number {
  const random = new Random(seed);
  return () => random.fraction();
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
