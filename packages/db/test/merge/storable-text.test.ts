import { describe, expect, test } from "vitest";
import { storableOrAbsent, storableText } from "../../src/merge/task-row.ts";

describe("storable text", () => {
  test.each([
    ["plain", "plain"],
    ["été ✓ 🎉", "été ✓ 🎉"],
    ["a\0b\0", "ab"],
    ["half \ud83c", "half \ufffd"],
    ["\udf89\0\ud83c", "\ufffd\ufffd"],
    ["\ud83c\0\udf89", "🎉"],
  ])("%j becomes %j", (text, expected) => {
    expect(storableText(text)).toBe(expected);
  });

  test("an empty text counts as absent", () => {
    expect(storableOrAbsent("")).toBeUndefined();
    expect(storableOrAbsent("\0")).toBeUndefined();
    expect(storableOrAbsent(undefined)).toBeUndefined();
  });
});
