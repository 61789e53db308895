import { describe, expect, it } from "vitest";
import { halves, judge, judgeSuspect } from "../../src/deliver/evidence.ts";

describe("a job that stalled", () => {
  it.each([
    [false, 0, 0, "run"],
    [false, 2, 0, "run"],
    [false, 3, 0, "suspect"],
    [false, 9, 0, "suspect"],
    [true, 0, 0, "run"],
    [true, 9, 0, "run"],
    [true, 9, 3, "run"],
    [true, 0, 4, "bury"],
  ] as const)("suspect %s, %i stalls, %i deaths while it ran alone: %s, unread", (...[suspect, stalls, deaths, verdict]) => {
    expect(judge({ suspect, stalls, deaths })).toBe(verdict);
  });

  it.each([
    [0, 500, "run"],
    [1, 500, "split"],
    [3, 500, "split"],
    [0, 1, "run"],
    [2, 1, "run"],
    [3, 1, "bury"],
    [0, 0, "run"],
    [3, 0, "bury"],
  ] as const)("as a suspect with %i such deaths, %i events: %s, once read", (...[deaths, size, verdict]) => {
    expect(judgeSuspect(deaths, size)).toBe(verdict);
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
