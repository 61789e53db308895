import { Packr } from "msgpackr";
import { describe, expect, it } from "vitest";
import { MAX_KEYS, SMALL_BODY, TooLargeError } from "../../src/model/normalise.ts";
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
    ["nothing", "", "ends too early"],
    ["bytes after the end", "c0c0", "end of buffer not reached"],
    ["the byte that is never used", "c1", "extension type"],
    ["a text that ends too early", "a3616", "length beyond the end"],
    ["a list that ends too early", "9201", "ends too early"],
    ["a map without its value", "81a161", "ends too early"],
    ["a truncated length", "dd0001", "length beyond the end"],
    ["a list of 33 million values in 5 bytes", "dd01ffffff", "ends too early"],
    ["such lists nested in each other", "dd01ffffff".repeat(50), "ends too early"],
    ["a list of four billion", "ddffffffff", "ends too early"],
    ["a map of four billion", "dfffffffff", "ends too early"],
    ["a text of four billion", "dbffffffff", "length beyond the end"],
    ["four billion bytes", "c6ffffffff", "length beyond the end"],
    ["nesting", `${"91".repeat(100_000)}c0`, "nested"],
    ["nesting one level too deep", `${"91".repeat(101)}c0`, "nested"],
    ["msgpackr's records", "d4724091a161", "extension type"],
    ["msgpackr's references", "d66900000001c0", "extension type"],
    ["msgpackr's regular expressions", "c70078a161", "extension type"],
    ["timestamps", "d6ff00000000", "extension type"],
    ["an 8-bit extension", "c70100ff", "extension type"],
  ])("refuses %s", (_given, hex, complaint) => {
    expect(() => parseMsgpack(Buffer.from(hex, "hex"))).toThrow(complaint);
  });

  it.each<[string, unknown]>([
    ...[127, 255, 65_535, 4_294_967_295, -33, -129, -32_769, 1.5].map((value): [string, unknown] => ["a number", value]),
    ...[1, 31, 32, 256, 65_536].map((length): [string, unknown] => [`a text of ${length}`, "x".repeat(length)]),
    ...[1, 300, 65_536].map((length): [string, unknown] => [`${length} bytes`, Buffer.alloc(length)]),
    ...[1, 15, 16, 65_536].map((length): [string, unknown] => [`a list of ${length}`, Array.from({ length }, () => 1)]),
    ...[1, 15, 16, 5_000].map((size): [string, unknown] => [`a map of ${size}`, map(size)]),
  ])("reads %s, and refuses it without its last byte, before msgpackr sees it", (_given, value) => {
    const bytes = packr.pack(value);
    expect(() => parseMsgpack(bytes)).not.toThrow();
    expect(() => parseMsgpack(bytes.subarray(0, -1))).toThrow("msgpack: ");
  });

  describe("counts the keys of a large body", () => {
    it.each([
      ["small maps", packr.pack(maps(10, MAX_KEYS)), packr.pack(maps(10, MAX_KEYS + 10))],
      ["maps with a 16-bit length", packr.pack(maps(100, MAX_KEYS)), packr.pack(maps(100, MAX_KEYS + 100))],
      ["a map with a 32-bit length", in32Bits(maps(MAX_KEYS, MAX_KEYS)), in32Bits(maps(MAX_KEYS + 1, MAX_KEYS + 1))],
    ])("in %s", (_given, most, more) => {
      expect(() => parseMsgpack(most)).not.toThrow();
      expect(() => parseMsgpack(more)).toThrow(TooLargeError);
    });

    it("but not texts that are no keys", () => {
      const texts = Array.from({ length: MAX_KEYS + 1 }, (_, index) => key(index));
      expect(parseMsgpack(packr.pack(texts))).toEqual(texts);
      expect(parseMsgpack(packr.pack({ a: texts }))).toEqual({ a: texts });
    });

    it("and not those of a small body", () => {
      const keys = Buffer.concat(
        Array.from({ length: MAX_KEYS + 1 }, (_, index) => Buffer.from([0xa3, ...Buffer.from(index.toString(36).padStart(3, "0")), 1])),
      );
      const head = Buffer.concat([Buffer.from([0x92, 0xde]), Buffer.from([(MAX_KEYS + 1) >> 8, (MAX_KEYS + 1) & 0xff])]);
      const body = (length: number): Buffer => {
        const text = Buffer.alloc(length - head.length - keys.length, "x");
        text.writeUInt16BE(text.length - 3, 1);
        text[0] = 0xda;
        return Buffer.concat([head, keys, text]);
      };
      expect(() => parseMsgpack(body(SMALL_BODY))).not.toThrow();
      expect(() => parseMsgpack(body(SMALL_BODY + 1))).toThrow(TooLargeError);
    });
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

/** The one map of a list, with its length in 32 bits. */
function in32Bits(list: readonly unknown[]): Buffer {
  const bytes = packr.pack(list[0]);
  const length = Buffer.alloc(5, 0xdf);
  length.writeUInt32BE(bytes.readUInt16BE(1), 1);
  return Buffer.concat([length, bytes.subarray(3)]);
}

/** A list of maps that have `keys` different keys together. */
function maps(perMap: number, keys: number): readonly unknown[] {
  return Array.from({ length: keys / perMap }, (_, nth) =>
    Object.fromEntries(Array.from({ length: perMap }, (_k, index) => [key(nth * perMap + index), 1])),
  );
}

function key(index: number): string {
  return `k${String(index).padStart(8, "0")}`;
}

function map(size: number): Record<string, number> {
  return Object.fromEntries(Array.from({ length: size }, (_, index) => [`k${index}`, index]));
}
