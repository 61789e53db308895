import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BOUNDS_SECONDS, percentile, unpackHistogram } from "../../src/rollups/histogram.ts";

const bucketOf = (seconds: number): number => BOUNDS_SECONDS.filter((bound) => seconds >= bound).length;

function histogramOf(values: readonly number[]): number[] {
  const histogram = Array.from({ length: Math.max(0, ...values.map(bucketOf)) + (values.length > 0 ? 1 : 0) }, () => 0);
  for (const value of values) histogram[bucketOf(value)] = (histogram[bucketOf(value)] ?? 0) + 1;
  return histogram;
}

describe("a percentile", () => {
  test("is within 27 % of the exact one, from a millisecond to 16 hours", () => {
    const seconds = fc.double({ min: Math.log(0.001), max: Math.log(57_000), noNaN: true }).map(Math.exp);
    fc.assert(
      fc.property(fc.array(seconds, { minLength: 1, maxLength: 50 }), fc.constantFrom(0.01, 0.5, 0.95, 0.99, 1), (values, share) => {
        const exact = values.toSorted((a, b) => a - b)[Math.ceil(share * values.length) - 1] ?? 0;
        const found = percentile(histogramOf(values), share) ?? 0;
        expect(found / exact).toBeGreaterThan(1 / 1.2651);
        expect(found / exact).toBeLessThan(1.2651);
      }),
    );
  });

  test.each([
    ["nothing", []],
    ["no counts", [0, 0]],
  ])("of %s is not known", (_what, histogram) => {
    expect(percentile(histogram, 0.5)).toBeUndefined();
  });

  test.each([
    ["of less than a millisecond", [3], 0.001 / Math.sqrt(1.6)],
    ["of an even number is the lower one", [0, 1, 1], 0.001 * Math.sqrt(1.6)],
  ])("%s", (_what, histogram, seconds) => {
    expect(percentile(histogram, 0.5)).toBeCloseTo(seconds, 9);
  });
});

test.each([
  ["nothing that was counted", null, []],
  ["no values", "0", [0]],
  ["one bucket", "7", [7]],
  ["a gap", "3000000000000000000000012", [12, 0, 3]],
  ["full buckets", "999999999999999999999999", [999_999_999_999, 999_999_999_999]],
])("a stored histogram of %s", (_what, packed, counts) => {
  expect(unpackHistogram(packed)).toEqual(counts);
});
