import { describe, expect, it } from "vitest";
import { parsePythonJson } from "../../src/wire/json.ts";

describe("parsePythonJson", () => {
  it.each([
    ['{"a": 1}', { a: 1 }],
    ['{"a": NaN}', { a: null }],
    ['{"a": Infinity, "b": -Infinity}', { a: null, b: null }],
    ["[NaN,NaN]", [null, null]],
    ["NaN", null],
    ["-Infinity", null],
    ['{"NaN": "NaN", "a": NaN}', { NaN: "NaN", a: null }],
    [String.raw`{"a": "\", NaN, \\", "b": NaN}`, { a: '", NaN, \\', b: null }],
    [String.raw`["\\", NaN, "-Infinity"]`, ["\\", null, "-Infinity"]],
    ['\uFEFF{"a": 1}', { a: 1 }],
    ['\uFEFF{"a": NaN}', { a: null }],
    ["1e999", Infinity],
  ])("reads %s", (text, value) => {
    expect(parsePythonJson(text)).toEqual(value);
  });

  it.each([
    "",
    "{",
    "nan",
    "NaNs",
    "xNaN",
    "- Infinity",
    "+Infinity",
    '{"a": NaN',
    '["NaN',
    "{NaN: 1}",
    "'NaN'",
    '"\\"NaN',
    "\uFEFF\uFEFF1",
  ])("refuses %o", (text) => {
    expect(() => parsePythonJson(text)).toThrow(SyntaxError);
  });

  it("takes linear time for text that is not JSON even so", () => {
    const before = process.cpuUsage();
    expect(() => parsePythonJson('"NaN'.repeat(300_000))).toThrow(SyntaxError);
    expect(() => parsePythonJson(`["${'\\"'.repeat(600_000)}NaN`)).toThrow(SyntaxError);
    expect(() => parsePythonJson(`[${'"",'.repeat(300_000)}NaN`)).toThrow(SyntaxError);
    expect(process.cpuUsage(before).user / 1_000).toBeLessThan(6_000);
  });
});
