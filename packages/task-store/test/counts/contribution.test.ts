import * as fc from "fast-check";
import { expect, it } from "vitest";
import { type Contribution, NOTHING, difference, readContribution, writeContribution } from "../../src/counts/contribution.ts";

const fields = fc
  .tuple(fc.stringMatching(/^[0-9a-z]{1,9}$/), fc.stringMatching(/^[A-Za-z][0-9a-z]{0,4}(:[0-9a-z])?$/))
  .map(([labels, code]) => `${labels}.${code}`);
const contributions: fc.Arbitrary<Contribution> = fc
  .array(fc.tuple(fields, fc.oneof(fc.constant(1), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }))), { maxLength: 12 })
  .map((pairs) => new Map(pairs));

it("is read as it was written", () => {
  fc.assert(
    fc.property(contributions, (contribution) => {
      const read = readContribution(writeContribution(contribution));
      expect([...read]).toEqual([...contribution]);
    }),
  );
});

it("omits a label set that is that of the field before, and a number of 1", () => {
  const written = "5a.s;.r=2;6b.s";
  expect(
    writeContribution(
      new Map([
        ["5a.s", 1],
        ["5a.r", 2],
        ["6b.s", 1],
      ]),
    ),
  ).toBe(written);
  expect(writeContribution(NOTHING)).toBe("");
  expect(readContribution("")).toEqual(NOTHING);
});

it("differs by what leads from one to the other", () => {
  fc.assert(
    fc.property(contributions, contributions, (before, after) => {
      const sum = new Map(before);
      const changes = difference(before, after);
      for (let index = 0; index < changes.length; index += 2) {
        const field = changes[index] as string;
        const number = (sum.get(field) ?? 0) + (changes[index + 1] as number);
        if (number === 0) sum.delete(field);
        else sum.set(field, number);
      }
      expect(sum).toEqual(new Map(after));
      expect(difference(after, after)).toEqual([]);
    }),
  );
});
