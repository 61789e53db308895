import { Unpackr } from "msgpackr";
import { afterEach, describe, expect, it, vi } from "vitest";
import { Parser } from "yaml";
import { MAX_DEPTH, MAX_FRAME_BYTES, MAX_KEYS, MAX_VALUES, SMALL_BODY, TooLargeError } from "../../src/model/normalise.ts";
import { decodeFrame } from "../../src/wire/decode.ts";
import { decodeEnvelope, encodeEnvelope } from "../../src/wire/envelope.ts";
import type { Frame } from "../../src/wire/frame.ts";
import { checkJsonBounds } from "../../src/wire/json.ts";
import { taskReceived } from "../../src/testing/builders.ts";

const JSON_TYPE = "application/json";
const MSGPACK_TYPE = "application/x-msgpack";
const YAML_TYPE = "application/x-yaml";
const TEN_MB = 10_000_000;
/** The lexemes of YAML that are parsed before its limits apply. */
const MAX_YAML_STEPS = 25_001;

const padding = " ".repeat(SMALL_BODY);

afterEach(() => {
  vi.restoreAllMocks();
});

/** What the parsers do: these calls are what would take half a minute without the limits. */
function watchParsers(): { readonly json: () => number; readonly msgpack: () => number; readonly yamlSteps: () => number } {
  const json = vi.spyOn(JSON, "parse");
  const msgpack = vi.spyOn(Unpackr.prototype, "unpack");
  const yaml = vi.spyOn(Parser.prototype, "next");
  return { json: () => json.mock.calls.length, msgpack: () => msgpack.mock.calls.length, yamlSteps: () => yaml.mock.calls.length };
}

/** Which limit it was. Nothing of the body. */
const LIMIT =
  /^(?:the body is (?:longer than 64 MiB|nested more than 100 levels)|the body has more than (?:2000000 values|10000 different keys|100 aliases)|a YAML body may have (?:262144 characters|25000 tokens))$/;

/** Celery's other fields. */
const REST = { clock: 1, pid: 1, utcoffset: 0, eta: null, expires: null, parent_id: null, queue: null, exchange: "", routing_key: "x" };

/** A map with a 32-bit length and keys of six characters. */
function msgpackMap(keys: number): Buffer {
  const body = Buffer.alloc(5 + keys * 8, "a");
  body[0] = 0xdf;
  body.writeUInt32BE(keys, 1);
  for (let index = 0, at = 5; index < keys; index++, at += 8) {
    body[at] = 0xa6;
    body.write(String(index).padStart(6, "0"), at + 1, "latin1");
    body[at + 7] = 1;
  }
  return body;
}

function msgpackList(item: number): Buffer {
  const body = Buffer.alloc(TEN_MB, item);
  body[0] = 0xdd;
  body.writeUInt32BE(TEN_MB - 5, 1);
  return body;
}

const keysOf = (objects: number, perObject: number): string =>
  `[${Array.from({ length: objects }, (_, index) => `{${Array.from({ length: perObject }, (_k, key) => `"k${index}_${key}":1`).join(",")}}`).join(",")}]`;

describe("a body past a bound is rejected as too large, unread", () => {
  it.each<[string, Frame["body"], string]>([
    ["10 MB of [", "[".repeat(TEN_MB), JSON_TYPE],
    ['10 MB of {"a":', '{"a":'.repeat(TEN_MB / 5), JSON_TYPE],
    ["10 MB of nested lists, closed", "[".repeat(TEN_MB / 2) + "]".repeat(TEN_MB / 2), JSON_TYPE],
    ["10 MB of empty lists", `[${"[],".repeat(TEN_MB / 3)}0]`, JSON_TYPE],
    ["10 MB of empty objects", `[${"{},".repeat(TEN_MB / 3)}0]`, JSON_TYPE],
    ["10 MB of zeros", `[${"0,".repeat(TEN_MB / 2)}0]`, JSON_TYPE],
    ["10 MB of keys, all different", keysOf(8_000, 100), JSON_TYPE],
    ["10 MB of nested lists in msgpack", Buffer.alloc(TEN_MB, 0x91), MSGPACK_TYPE],
    ["10 MB of empty lists in msgpack", msgpackList(0x90), MSGPACK_TYPE],
    ["10 MB of empty maps in msgpack", msgpackList(0x80), MSGPACK_TYPE],
    ["10 MB of keys in msgpack, all different", msgpackMap(TEN_MB / 8), MSGPACK_TYPE],
    ["10 MB of YAML", `a: ${"x".repeat(TEN_MB)}`, YAML_TYPE],
    ["nested lists in YAML", "[".repeat(262_000), YAML_TYPE],
    // Without the limit V8 aborts the process: "RegExpCompiler Allocation failed".
    ["nested maps in YAML", "{".repeat(262_000), YAML_TYPE],
    ["nested lists in one line of YAML", "- ".repeat(131_000), YAML_TYPE],
    ["nested keys in one line of YAML", "? ".repeat(131_000), YAML_TYPE],
    ["lists nested line by line in YAML", Array.from({ length: 700 }, (_, depth) => `${" ".repeat(depth)}-`).join("\n"), YAML_TYPE],
    ["a hundred thousand values in YAML", `[${"0,".repeat(100_000)}0]`, YAML_TYPE],
    ["ten thousand aliases in YAML", `- &a 1\n${"- *a\n".repeat(10_000)}`, YAML_TYPE],
    ["more bytes than the bound", Buffer.alloc(MAX_FRAME_BYTES + 1, " "), JSON_TYPE],
    ["more bytes of msgpack than the bound", Buffer.alloc(MAX_FRAME_BYTES + 1), MSGPACK_TYPE],
  ])("%s", (_given, body, contentType) => {
    const parsers = watchParsers();
    const { events, rejected } = decodeFrame({ body, contentType });
    expect([parsers.json(), parsers.msgpack()]).toEqual([0, 0]);
    expect(parsers.yamlSteps()).toBeLessThanOrEqual(MAX_YAML_STEPS);
    expect(events).toEqual([]);
    expect(rejected).toMatchObject([{ reason: "too_large", detail: expect.stringMatching(LIMIT), count: 1 }]);
    expect(rejected[0]?.raw.length).toBeLessThanOrEqual(4_096);
    expect(rejected[0]?.readAs).toBeUndefined();
  });

  it.each<[string, string | Uint8Array, number]>([
    ["around the body", "[".repeat(TEN_MB), 0],
    ["in its headers", `{"body":"W10=","headers":${"[".repeat(TEN_MB / 2)}${"]".repeat(TEN_MB / 2)}}`, 0],
    ["inside the body, once the envelope is read", encodeEnvelope({ body: "[".repeat((TEN_MB / 4) * 3), routingKey: "task.multi" }), 1],
    ["in its size", Buffer.alloc(MAX_FRAME_BYTES + 1, " "), 0],
  ])("in kombu's envelope, %s", (_where, payload, parsed) => {
    const parsers = watchParsers();
    expect(decodeEnvelope(payload)).toMatchObject({
      events: [],
      rejected: [{ reason: "too_large", detail: expect.stringMatching(LIMIT) }],
    });
    expect(parsers.json()).toBe(parsed);
  });

  it("whose YAML aliases multiply, without building the result", () => {
    const lines = Array.from("bcdefghij", (name, index) => `${name}: &${name} [${`*${"abcdefghij"[index]},`.repeat(9)}]`);
    const body = `a: &a [x,x,x,x,x,x,x,x,x]\n${lines.join("\n")}`;
    // The value that it would build is an object without a type: another reason.
    expect(decodeFrame({ body, contentType: YAML_TYPE }).rejected).toMatchObject([{ reason: "body" }]);
  });
});

describe("a body within the bounds is read", () => {
  const list = Array.from({ length: 100_000 }, (_, index) => ({
    ...taskReceived({ uuid: `3ce907e3-796a-4b51-97cf-${String(index).padStart(12, "0")}` }),
    ...REST,
  }));

  it("a list of 100,000 events with all of Celery's fields", () => {
    const { events, rejected } = decodeFrame({ body: JSON.stringify(list), contentType: JSON_TYPE });
    expect(rejected).toEqual([]);
    expect(events).toHaveLength(100_000);
  });

  it.each([
    ["brackets, commas and colons in strings", JSON.stringify(['[{"a":1,'.repeat(500_000), "]}\\".repeat(10), '\\"[[['.repeat(100)])],
    ["backslashes before quotes", `["${"\\\\".repeat(50_000)}","${'\\"'.repeat(50_000)}","\\\\\\""]`],
    ["nesting up to the bound", "[".repeat(MAX_DEPTH) + padding + "]".repeat(MAX_DEPTH)],
    ["lists side by side", `[${"[[]],".repeat(50_000)}0]`],
    ["the same keys over and over", `[${'{"a":1,"b":[{"c":2}]},'.repeat(50_000)}0]`],
    ["as many keys as allowed", keysOf(100, MAX_KEYS / 100)],
  ])("JSON with %s", (_given, json) => {
    expect(() => JSON.parse(json)).not.toThrow();
    expect(() => checkJsonBounds(json)).not.toThrow();
  });

  it.each([
    ["nested one level deeper", `${padding}${"[".repeat(MAX_DEPTH + 1)}`],
    ["with one value more", `[${"0,".repeat(MAX_VALUES)}0]`],
    ["with one key more", `[${keysOf(101, MAX_KEYS / 100)}]`],
  ])("but not JSON %s", (_given, json) => {
    expect(() => checkJsonBounds(json)).toThrow(TooLargeError);
  });

  it("a small body is not scanned", () => {
    expect(() => checkJsonBounds("[".repeat(SMALL_BODY))).not.toThrow();
    expect(() => checkJsonBounds("[".repeat(SMALL_BODY + 1))).toThrow(TooLargeError);
  });

  it.each([
    ["nested up to the bound", `${"[".repeat(MAX_DEPTH)}${"]".repeat(MAX_DEPTH)}`],
    ["nested line by line", Array.from({ length: 90 }, (_, depth) => `${" ".repeat(depth)}a:`).join("\n")],
    ["with a bracket in each of many texts", Array.from({ length: 500 }, (_, index) => `- '[[[{{{ ${index}'`).join("\n")],
  ])("YAML %s", (_given, yaml) => {
    expect(decodeFrame({ body: yaml, contentType: YAML_TYPE }).rejected[0]?.reason).not.toMatch(/too_large|body/);
  });
});
