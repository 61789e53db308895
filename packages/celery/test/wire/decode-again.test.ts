import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeAgain, decodeEnvelope } from "../../src/wire/envelope.ts";
import { decodeFrame } from "../../src/wire/decode.ts";
import type { Decoded } from "../../src/wire/frame.ts";
import { taskStarted } from "../../src/testing/builders.ts";

const event = taskStarted({ uuid: "é" });
const json = JSON.stringify(event);
const base64 = Buffer.from(json).toString("base64");

describe("a reject is decoded again", () => {
  it.each<[string, Decoded]>([
    ["a body that is not JSON", decodeFrame({ body: Buffer.from("{é"), contentType: "application/json", contentEncoding: "utf-8" })],
    [
      "a body in another character set",
      decodeFrame({ body: Buffer.from("{\xe9", "latin1"), contentType: "application/json", contentEncoding: "latin-1" }),
    ],
    ["a body that is not YAML", decodeFrame({ body: "a: [1", contentType: "application/x-yaml" })],
    ["a body that is not msgpack", decodeFrame({ body: Buffer.from([0xc1]), contentType: "application/x-msgpack" })],
    ["an unknown content type", decodeFrame({ body: Buffer.from([0xff, 0]), contentType: "application/x-new" })],
    ["an unknown encoding", decodeFrame({ body: Buffer.from(json), contentType: "application/json", contentEncoding: "rot13" })],
    ["a pickle", decodeFrame({ body: Buffer.from([0x80, 4]), contentType: "application/x-python-serialize" })],
    ["an envelope", decodeEnvelope('{"body": 5}')],
    ["an event in a list", decodeFrame({ body: '[{"type":"task-started","timestamp":1}]', contentType: undefined })],
    ["a list in a list", decodeFrame({ body: `[[${json}]]`, contentType: undefined })],
    ["a list in a list", decodeFrame({ body: "[[]]", contentType: undefined })],
  ])("%s: with the same result, by the same decoder", (_given, { rejected }) => {
    const [reject] = rejected;
    if (reject?.readAs === undefined) throw new Error("not to be read again");
    expect(decodeAgain(reject.raw, reject.readAs)).toEqual({ events: [], rejected });
  });

  it("as events, by a decoder that knows more", () => {
    expect(decodeAgain(json, "event")?.events).toEqual([event]);
    expect(decodeAgain(json, { contentType: "application/json" })?.events).toEqual([event]);
    expect(decodeAgain(base64, { contentType: "application/json", base64: true })?.events).toEqual([event]);
    expect(decodeAgain(JSON.stringify({ body: json }), "envelope")?.events).toEqual([event]);
  });

  it.each<[string, Decoded]>([
    ["a long body", decodeFrame({ body: "{".repeat(5_000), contentType: undefined })],
    ["long bytes", decodeFrame({ body: Buffer.alloc(5_000), contentType: "application/x-new" })],
    ["a long event", decodeFrame({ body: JSON.stringify({ ...event, timestamp: null, x: "x".repeat(5_000) }), contentType: undefined })],
    ["a long envelope", decodeEnvelope(" ".repeat(5_000))],
    ["bytes that are not the text they should be", decodeFrame({ body: Buffer.from([0x7b, 0xff]), contentType: undefined })],
    ["a very long content type", decodeFrame({ body: "", contentType: "x".repeat(1_000) })],
  ])("but not %s, of which only a part is kept", (_given, { rejected }) => {
    expect(rejected).toHaveLength(1);
    expect(rejected[0]?.readAs).toBeUndefined();
  });

  it.each<[string, unknown, unknown]>([
    ["a number", 5, { contentType: "application/json" }],
    ["nothing", null, "event"],
    ["a text read as an unknown word", "{}", "body"],
    ["a text read as nothing", "{}", null],
    ["a text read as a list", "{}", []],
    ["a text whose type is not a text", "{}", { contentType: 5 }],
    ["bytes whose encoding is not a text", "e30=", { base64: true, contentEncoding: {} }],
  ])("but not %s, which no release has stored", (_given, raw, readAs) => {
    expect(decodeAgain(raw, readAs)).toBeUndefined();
  });

  it("and never throws, whatever was stored", () => {
    const word = fc.oneof(
      fc.constantFrom("application/json", "application/x-msgpack", "utf-16", "nonsense"),
      fc.jsonValue({ maxDepth: 1 }),
    );
    const readAs = fc.oneof(
      fc.constantFrom("envelope", "event"),
      fc.record({ contentType: word, contentEncoding: word, base64: fc.oneof(fc.constant(true), word) }, { requiredKeys: [] }),
      fc.jsonValue({ maxDepth: 1 }),
    );
    const raw = fc.oneof(fc.json(), fc.string(), fc.jsonValue({ maxDepth: 1 }));
    const decoded = { yes: 0, no: 0 };
    fc.assert(
      fc.property(raw, readAs, (given, as) => void (decoded[decodeAgain(given, as) === undefined ? "no" : "yes"] += 1)),
      { seed: 20_261_129, numRuns: 5_000, interruptAfterTimeLimit: 5_000 },
    );
    expect(Math.min(decoded.yes, decoded.no)).toBeGreaterThan(500);
  });
});
