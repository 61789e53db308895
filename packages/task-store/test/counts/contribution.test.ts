import * as fc from "fast-check";
import { expect, it } from "vitest";
import { type Contribution, NOTHING, contribute, difference, readContribution, writeContribution } from "../../src/counts/contribution.ts";

const fields = fc
  .tuple(fc.stringMatching(/^[0-9a-z]{1,9}$/), fc.stringMatching(/^[A-Za-z][0-9a-z]{0,4}(:[0-9a-z])?$/))
  .map(([labels, code]) => `${labels}.${code}`);
const numbers = fc.oneof(fc.constant(1), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }));
const contributions: fc.Arbitrary<Contribution> = fc
  .dictionary(fields, numbers, { maxKeys: 12 })
  .map((pairs) => Object.entries(pairs).flat());

function asMap(contribution: Contribution): Map<string, number> {
  const map = new Map<string, number>();
  for (let at = 0; at < contribution.length; at += 2) map.set(contribution[at] as string, contribution[at + 1] as number);
  return map;
}

it("has each field once, with the sum of what was added", () => {
  const contribution: (string | number)[] = [];
  for (const [field, by] of [
    ["5a.s", 1],
    ["5a.T", 7],
    ["5a.W", 0],
    ["5a.s", 2],
  ] as const)
    contribute(contribution, field, by);
  expect(contribution).toEqual(["5a.s", 3, "5a.T", 7]);
});

it("is read as it was written", () => {
  fc.assert(
    fc.property(contributions, (contribution) => {
      expect(readContribution(writeContribution(contribution))).toEqual(contribution);
    }),
  );
});

it("omits a label set that is that of the field before, and a number of 1", () => {
  expect(writeContribution(["5a.s", 1, "5a.r", 2, "6b.s", 1])).toBe("5a.s;.r=2;6b.s");
  expect(writeContribution(["5a.T", 1_295])).toBe("5a.T=zz");
  expect(writeContribution(NOTHING)).toBe("");
  expect(readContribution("")).toEqual(NOTHING);
});

it("differs by what leads from one to the other", () => {
  fc.assert(
    fc.property(contributions, contributions, (before, after) => {
      const sum = asMap(before);
      for (const [field, by] of asMap(difference(before, after))) {
        const number = (sum.get(field) ?? 0) + by;
        if (number === 0) sum.delete(field);
        else sum.set(field, number);
      }
      expect(sum).toEqual(asMap(after));
      expect(difference(after, after)).toEqual([]);
    }),
  );
});

it("has no numbers of 0, which an earlier form stored", () => {
  expect(readContribution("x.s;.M=0;.r=2")).toEqual(["x.s", 1, "x.r", 2]);
});
