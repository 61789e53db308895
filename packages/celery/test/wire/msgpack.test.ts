import { Packr } from "msgpackr";
import { describe, expect, it } from "vitest";
import { parseMsgpack } from "../../src/wire/msgpack.ts";

const packr = new Packr({ useRecords: false, variableMapSize: true });

describe("parseMsgpack", () => {
  it.each([
    ["null, booleans", { a: null, b: true, c: false }],
    [
      "integers of each size",
      [0, 127, 128, 255, 256, 65_535, 65_536, 4_294_967_295, -1, -32, -33, -128, -129, -32_768, -32_769, -2_147_483_648],
    ],
    ["floats", [1.5, -0.25, 1_795_328_908.522675, 1e300]],
    ["texts of each size", ["", "é", "x".repeat(31), "x".repeat(32), "x".repeat(255), "x".repeat(256), "x".repeat(65_536)]],
    [
      "lists of each size",
      [[], Array.from({ length: 15 }, () => 1), Array.from({ length: 16 }, () => 1), Array.from({ length: 65_536 }, () => 1)],
    ],
    ["maps of each size", [{}, map(15), map(16), map(5_000)]],
    ["bytes", [Buffer.from("ab"), Buffer.alloc(300), Buffer.alloc(65_536)]],
  ])("reads %s", (_given, value) => {
    expect(parseMsgpack(packr.pack(value))).toEqual(value);
  });

  it("reads a map with a 32-bit length", () => {
    const bytes = Buffer.concat([Buffer.from("df00000002", "hex"), packr.pack("a"), packr.pack(1), packr.pack("b"), packr.pack([2])]);
    expect(parseMsgpack(bytes)).toEqual({ a: 1, b: [2] });
  });

  it("reads 64-bit integers as numbers", () => {
    expect(parseMsgpack(Buffer.from("cf0000000100000000", "hex"))).toBe(4_294_967_296);
    expect(parseMsgpack(Buffer.from("d3ffffffff00000000", "hex"))).toBe(-4_294_967_296);
  });

  it.each([
    ["nothing", ""],
    ["bytes after the end", "c0c0"],
    ["the byte that is never used", "c1"],
    ["a text that ends too early", "a3616"],
    ["a list that ends too early", "9201"],
    ["a map without its value", "81a161"],
    ["a truncated length", "dd0001"],
    ["a list of 33 million values in 5 bytes", "dd01ffffff"],
    ["such lists nested in each other", "dd01ffffff".repeat(50)],
    ["a list of four billion", "ddffffffff"],
    ["a map of four billion", "dfffffffff"],
    ["a text of four billion", "dbffffffff"],
    ["four billion bytes", "c6ffffffff"],
    ["nesting", `${"91".repeat(100_000)}c0`],
    ["nesting one level too deep", `${"91".repeat(101)}c0`],
    ["msgpackr's records", "d4724091a161"],
    ["msgpackr's references", "d66900000001c0"],
    ["msgpackr's regular expressions", "c70078a161"],
    ["timestamps", "d6ff00000000"],
    ["an 8-bit extension", "c70100ff"],
  ])("refuses %s", (_given, hex) => {
    expect(() => parseMsgpack(Buffer.from(hex, "hex"))).toThrow(Error);
  });

  it("reads the bytes that msgpackr uses for records as numbers", () => {
    expect(parseMsgpack(Buffer.from("40", "hex"))).toBe(64);
  });

  it("reads nesting up to its limit, and still works after a refusal", () => {
    const bytes = Buffer.from(`${"91".repeat(100)}c0`, "hex");
    expect(() => parseMsgpack(bytes)).not.toThrow();
    expect(() => parseMsgpack(Buffer.from("9291", "hex"))).toThrow(Error);
    expect(() => parseMsgpack(bytes)).not.toThrow();
  });

  it("sets no prototype", () => {
    const value = parseMsgpack(Buffer.concat([Buffer.from([0x81, 0xa9]), Buffer.from("__proto__"), packr.pack({ polluted: 1 })]));
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect("polluted" in Object(value)).toBe(false);
  });
});

function map(size: number): Record<string, number> {
  return Object.fromEntries(Array.from({ length: size }, (_, index) => [`k${index}`, index]));
}
