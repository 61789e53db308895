import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readBase36, toBase36 } from "../../src/facts/encoding.ts";

describe("a number in base 36", () => {
  it.each([0, 1, 35, 36, 1_295, 1_296, 46_655, 46_656, 1_795_328_900_123_456, Number.MAX_SAFE_INTEGER])(
    "%d is as toString(36) has it",
    (number) => {
      expect(toBase36(number)).toBe(number.toString(36));
    },
  );

  it("is read to its end", () => {
    fc.assert(fc.property(fc.maxSafeNat(), (number) => readBase36(`s${toBase36(number)}.x`, 1) === number));
    expect([readBase36("s.x", 1), readBase36("s", 1), readBase36("b10|w", 1)]).toEqual([0, 0, 36]);
  });

  it("is so for any whole number", () => {
    fc.assert(fc.property(fc.maxSafeNat(), (number) => toBase36(number) === number.toString(36)));
  });
});
