import { describe, expect, it } from "vitest";
import { decodeFrame } from "../../src/wire/decode.ts";
import { decodeEnvelope } from "../../src/wire/envelope.ts";
import type { Decoded } from "../../src/wire/frame.ts";
import { taskFailed, taskReceived, taskSent, workerHeartbeat } from "../../src/testing/builders.ts";
import { liveHeapBytes } from "../../src/testing/live-heap.ts";

const FRAMES = 100;
const LONG = 400_000;
/** Limit for 40 MB of messages. Kept texts of 65,536 characters take 6.5 MB. */
const MAX_KEPT_BYTES = 12 * 2 ** 20;

/** A different text for each frame; `end` may contain characters to clean away. */
const long = (index: number, end = ""): string => `${String(index).padEnd(LONG, "x")}${end}`;
const json = (value: unknown): Decoded => decodeFrame({ body: JSON.stringify(value), contentType: "application/json" });
const envelope = (body: string, more: object = {}): Decoded => decodeEnvelope(JSON.stringify({ body, properties: {}, ...more }));

describe("decoding results do not keep a long message alive", () => {
  it.each<[string, (index: number) => Decoded]>([
    ["a hostname that is cut", (index) => json(workerHeartbeat({ hostname: long(index) }))],
    ["a name and a queue that are cut", (index) => json(taskSent({ name: long(index), queue: long(index) }))],
    ["a name that is cut after NULs are removed", (index) => json(taskReceived({ name: long(index, "\0") }))],
    ["a name that is cut after a lone surrogate is replaced", (index) => json(taskReceived({ name: long(index, "\ud800") }))],
    ["a traceback that is cut", (index) => json(taskFailed({ traceback: long(index) }))],
    ["a body that is not JSON", (index) => decodeFrame({ body: long(index), contentType: "application/json" })],
    ["a body in bytes that is not JSON", (index) => decodeFrame({ body: Buffer.from(long(index)), contentType: "application/json" })],
    ["a body that is not msgpack", (index) => decodeFrame({ body: long(index), contentType: "application/x-msgpack" })],
    [
      "a body in bytes that is not msgpack",
      (index) => decodeFrame({ body: Buffer.from(long(index)), contentType: "application/x-msgpack" }),
    ],
    ["an event without timestamp", (index) => json({ ...taskReceived({ args: long(index) }), timestamp: null })],
    ["an event whose id is too long", (index) => json(taskReceived({ uuid: long(index) }))],
    ["a message that is not an envelope", (index) => decodeEnvelope(long(index))],
    ["an envelope with a long content type", (index) => envelope("[]", { "content-type": long(index) })],
    ["an envelope with a body that is not JSON", (index) => envelope(long(index))],
  ])("%s", (_given, decode) => {
    const before = liveHeapBytes();
    const kept = Array.from({ length: FRAMES }, (_, index) => decode(index));
    expect(liveHeapBytes() - before).toBeLessThan(MAX_KEPT_BYTES);
    expect(kept.every(({ events, rejected }) => events.length + rejected.length === 1)).toBe(true);
  });
});
