import { describe, expect, it } from "vitest";
import { type KnownMinute, latelyOf, trendOf } from "../src/queries/queue-flow.ts";

/** Lengths by minute, each observed in the middle of it; null where nobody asked. */
function known(lengths: readonly (number | null)[]): KnownMinute[] {
  return lengths.flatMap((length, minute) => (length === null ? [] : [{ minute, at: minute + 0.5, messages: length, most: length }]));
}

describe("a queue", () => {
  it.each([
    ["grows", [1, 2, 3, 4, 5, 6, 7, 8, 9], 1],
    ["shrinks", [90, 80, 70, 60, 50, 40, 30, 20, 10], -10],
    ["keeps up while it goes up and down", [0, 50, 0, 50, 0, 50, 0, 50, 40], 5],
    ["keeps up if it grows slower than by half a message a minute", [1, 1, 1, 2, 2, 2, 3, 3, 4], 0.375],
    ["is not known from two minutes", [10, 20], 10],
    ["is not known from one minute", [10], null],
    ["is not known if nobody asked", [], null],
  ])("%s", (what, lengths, change) => {
    const trend = ["grows", "shrinks"].find((each) => each === what) ?? (what.startsWith("keeps up") ? "steady" : null);
    expect(trendOf(known(lengths))).toEqual({ trend, change });
  });
});

describe("what comes into a queue and goes out, a minute", () => {
  it("counts the first minutes of a new queue, over the minutes that there were", () => {
    const nothing = [null, null, null];
    expect(latelyOf(known([...nothing, 0, 0]), [0, 0, 0, 120, 0])).toMatchObject({ sent: 120, taken: 120 });
    expect(latelyOf(known([...nothing, 0, 0, 0]), [0, 0, 0, 120, 0, 0])).toMatchObject({ sent: 60, taken: 60 });
    // All that was sent waits.
    expect(latelyOf(known([...nothing, 25, 25, 25]), [0, 0, 0, 25, 0, 0])).toMatchObject({ sent: 12.5, taken: 0 });
    // Something waited before anything was known.
    expect(latelyOf(known([...nothing, 100, 100, 100]), [0, 0, 0, 25, 0, 0])).toMatchObject({ sent: 12.5, taken: 0 });
  });

  it("counts what came in before the monitor's first look", () => {
    expect(latelyOf(known([null, null, null, 20, 80]), [0, 0, 50, 20, 60])).toMatchObject({ sent: 35, taken: 25 });
    expect(latelyOf(known([null, null, null, 0, 0]), [0, 0, 0, 0, 0])).toMatchObject({ sent: 0, taken: 0 });
  });

  it("is not known from the first minute of the range alone", () => {
    expect(latelyOf(known([5]), [30, 30, 30])).toMatchObject({ sent: null, taken: null });
  });

  it("does not count the minute that is not over", () => {
    expect(latelyOf(known([5, 5, 5, 5, 5]), [900, 30, 30, 30, 1])).toMatchObject({ change: 0, sent: 30, taken: 30 });
  });

  it("ends with the last length", () => {
    expect(latelyOf(known([5, 5, 5, null, null]), [0, 30, 30, 900, 0])).toMatchObject({ change: 0, sent: 30, taken: 30 });
  });

  it("takes nothing out because of what came in before", () => {
    expect(latelyOf(known([69, 69, 76, 76, 76, 76]), [207, 0, 7, 0, 0, 0])).toMatchObject({ sent: 1.75, taken: 0 });
  });

  it("is not known without task-sent", () => {
    expect(latelyOf(known([5, 5, 5, 5]), undefined)).toEqual({ trend: "steady", change: 0, sent: null, taken: null });
  });
});
