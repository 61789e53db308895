/** Histograms of durations with logarithmic buckets, and percentiles of them. */

/** Each bucket is this many times as wide as the one before. */
const GROWTH = 1.6;
const FIRST_SECONDS = 0.001;
/** The last bucket begins at 16 hours. */
export const BUCKETS = 40;

/**
 * Where buckets 1, 2, … begin, in seconds: 1 ms, 1.6 ms, … Bucket 0 has what is shorter, and the last one everything that is longer. A stored histogram
 * ends with its last bucket that is not empty.
 */
export const BOUNDS_SECONDS: readonly number[] = Array.from({ length: BUCKETS - 1 }, (_, index) => FIRST_SECONDS * GROWTH ** index);

/** The sum of two histograms. */
export function addHistograms(a: readonly number[], b: readonly number[]): number[] {
  const [longer, shorter] = a.length >= b.length ? [a, b] : [b, a];
  return longer.map((count, index) => count + (shorter[index] ?? 0));
}

/** How many values it has. */
export function countOf(histogram: readonly number[]): number {
  return histogram.reduce((sum, count) => sum + count, 0);
}

/**
 * A percentile, at most about 25 % from the exact one: the middle of its bucket, by logarithm. Values below 1 ms count as about 0.8 ms, and above 16
 * hours as 20.
 *
 * @param share from 0 to 1, such as 0.95.
 * @returns seconds; undefined for an empty histogram.
 */
export function percentile(histogram: readonly number[], share: number): number | undefined {
  const total = countOf(histogram);
  if (total === 0) return undefined;
  const rank = Math.max(1, Math.ceil(share * total));
  let seen = 0;
  const bucket = histogram.findIndex((count) => (seen += count) >= rank);
  return FIRST_SECONDS * GROWTH ** (bucket - 0.5);
}
