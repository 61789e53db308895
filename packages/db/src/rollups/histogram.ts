/** Histograms of durations with logarithmic buckets, and percentiles of them. */

/** Each bucket is this many times as wide as the one before. */
const GROWTH = 1.6;
const FIRST_SECONDS = 0.001;
/** The last bucket begins at 16 hours. */
const BUCKETS = 40;

/** Where buckets 1, 2, … begin, in seconds: 1 ms, 1.6 ms, … Bucket 0 has what is shorter, and the last one everything that is longer. */
export const BOUNDS_SECONDS: readonly number[] = Array.from({ length: BUCKETS - 1 }, (_, index) => FIRST_SECONDS * GROWTH ** index);

/** A bucket's share of the digits of a stored histogram. It holds more tasks than a table ever will. */
const DIGITS = 12;

/**
 * A histogram as it is stored, as SQL for values of the type `numeric`: one large number, with twelve decimal digits for each bucket, the first bucket
 * last. So `sum` adds histograms, about ten times as fast as it adds the elements of arrays.
 *
 * @param count how many values are in the bucket; SQL.
 * @param bucket SQL; if NULL, so is the result.
 */
export function packedCount(count: string, bucket: string): string {
  return `(${count} || 'e' || ${DIGITS} * ${bucket})::numeric`;
}

/** The buckets of a stored histogram, as the driver returns it. It may lack empty ones at the end. */
export function unpackHistogram(packed: string | null): number[] {
  const counts: number[] = [];
  for (let end = packed?.length ?? 0; end > 0; end -= DIGITS) counts.push(Number(packed?.slice(Math.max(0, end - DIGITS), end)));
  return counts;
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
