import { describe, expect, it, vi } from "vitest";
import { cleanText, compareBytes } from "../../src/python/text.ts";

describe("a text that is cut", () => {
  it.each([
    ["keeps a character that ends at the limit", "ab\u{10000}c", 4, "ab\u{10000}"],
    ["loses the first of the pairs whole", "abc\u{10000}", 4, "abc"],
    ["loses the last of the pairs whole", "abc\u{10FFFF}", 4, "abc"],
    ["keeps a character just before the surrogates", "abc\uD7FFd", 4, "abc\uD7FF"],
    ["keeps a character just after them", "abc\uE000d", 4, "abc\uE000"],
    ["has its NULs and lone surrogates replaced first", "\0a\uD800b\uDC00c", 4, "a\uFFFDb\uFFFD"],
  ])("%s", (_what, text, maxLength, expected) => {
    expect(cleanText(text, maxLength)).toBe(expected);
  });
});

it("a text within the limit is not copied", () => {
  const copy = vi.spyOn(Buffer, "from");
  expect(cleanText("abcd", 4)).toBe("abcd");
  expect(copy).not.toHaveBeenCalled();
  copy.mockRestore();
});

describe("the order of texts", () => {
  it("is that of their UTF-8 bytes, which is not JavaScript's beyond U+FFFF", () => {
    const ordered = ["", "A", "B", "a", "é", "\uFFFD", "\u{1F600}"];
    expect(ordered.toReversed().toSorted(compareBytes)).toEqual(ordered);
    expect(ordered.toSorted()).not.toEqual(ordered);
  });

  it("has equal texts side by side", () => {
    expect(compareBytes("é", "é")).toBe(0);
  });
});
