import { describe, expect, it } from "vitest";
import { MAX_AHEAD_SECONDS, MAX_TIMESTAMP, isFuture, parseIsoTime, toMicroseconds } from "../../src/model/time.ts";
import { taskStarted } from "../../src/testing/builders.ts";

describe("parseIsoTime", () => {
  it.each([
    ["2026-11-22T08:00:00+00:00", 1_795_334_400],
    ["2026-11-22T08:00:00Z", 1_795_334_400],
    ["2026-11-22T08:00:00", 1_795_334_400],
    ["2026-11-22 08:00:00", 1_795_334_400],
    ["2026-11-22T08:00", 1_795_334_400],
    ["2026-11-22", 1_795_305_600],
    ["2026-11-22T08:00:00.123456+00:00", 1_795_334_400.123456],
    ["2026-11-22T08:00:00.000001+00:00", 1_795_334_400.000001],
    ["2026-11-22T08:00:00.999999Z", 1_795_334_400.999999],
    ["2026-11-22T08:00:00.5Z", 1_795_334_400.5],
    ["2026-11-22T08:00:00.123456789Z", 1_795_334_400.123456],
    ["2026-11-22T13:30:00+05:30", 1_795_334_400],
    ["2026-11-22T03:00:00-05:00", 1_795_334_400],
    ["2026-11-22T03:00:00-0500", 1_795_334_400],
    ["2026-11-22T03:00:00 -05:00", 1_795_334_400],
    ["2026-11-22T08:00:01+00:00:01", 1_795_334_400],
    ["2026-11-22T23:59:59Z", 1_795_391_999],
    ["2024-02-29T00:00:00Z", 1_709_164_800],
    ["1970-01-01T00:00:00Z", 0],
    ["1969-12-31T19:00:00-05:00", 0],
    ["2096-10-02T07:06:40Z", MAX_TIMESTAMP],
  ])("reads %s", (text, seconds) => {
    expect(parseIsoTime(text)).toBe(seconds);
  });

  it.each([
    "",
    "soon",
    "1795334400",
    "2026-13-01T00:00:00Z",
    "2026-00-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-04-31",
    "2026-11-22T24:00:00Z",
    "2026-11-22T08:60:00Z",
    "2026-11-22T08:00:60Z",
    "2026-11-22T08:00:00+5",
    "2026-11-22T08:00:00 UTC",
    "2026-11-22T08:00:00Z and more",
    "22.11.2026",
    // Before 1970 and after what is accepted.
    "1969-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00",
    "0099-01-01T00:00:00",
    "2096-10-02T07:06:40.000001Z",
    "9999-12-31T23:59:59.999999+00:00",
  ])("refuses %o", (text) => {
    expect(parseIsoTime(text)).toBeUndefined();
  });
});

it("an event is from the future if its clock is more than a day ahead of ours", () => {
  const now = 1_795_334_400;
  const ahead = [-1, 0, 1, MAX_AHEAD_SECONDS, MAX_AHEAD_SECONDS + 1];
  expect(ahead.map((seconds) => isFuture(taskStarted({ timestamp: now + seconds }), now))).toEqual([false, false, false, false, true]);
});

it("an instant has all its microseconds", () => {
  expect(toMicroseconds(1_795_328_908.522675)).toBe(1_795_328_908_522_675);
});
