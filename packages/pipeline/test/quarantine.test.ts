import { describe, expect, it } from "vitest";
import { halves, judge } from "../src/quarantine.ts";

describe("a job that stalled", () => {
  it.each([
    [false, 0, 0, 500, "run"],
    [false, 2, 0, 500, "run"],
    [false, 3, 0, 500, "split"],
    [false, 3, 0, 1, "split"],
    [true, 0, 0, 500, "alone"],
    [true, 9, 0, 500, "alone"],
    [true, 1, 1, 500, "split"],
    [true, 9, 0, 1, "alone"],
    [true, 9, 2, 1, "alone"],
    [true, 3, 3, 1, "bury"],
    [true, 0, 0, 0, "alone"],
    [true, 3, 3, 0, "bury"],
  ] as const)("suspect %s, %i stalls, %i deaths while it ran alone, %i events: %s", (...[suspect, stalls, deaths, size, verdict]) => {
    expect(judge({ suspect, stalls, deaths, size })).toBe(verdict);
  });
});

describe("halves", () => {
  it.each([
    [[], [[]]],
    [[1], [[1]]],
    [
      [1, 2],
      [[1], [2]],
    ],
    [
      [1, 2, 3],
      [[1, 2], [3]],
    ],
  ])("of %j are %j", (items, expected) => {
    expect(halves(items)).toEqual(expected);
  });
});
