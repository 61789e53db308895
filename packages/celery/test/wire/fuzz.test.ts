import * as fc from "fast-check";
import { Packr } from "msgpackr";
import { describe, expect, it } from "vitest";
import { decodeFrame } from "../../src/wire/decode.ts";
import { decodeEnvelope } from "../../src/wire/envelope.ts";
import type { Decoded, Rejected } from "../../src/wire/frame.ts";
import { parsePythonLiteral } from "../../src/python/literal.ts";
import { eventProblems } from "../../src/testing/event-problems.ts";
import { Fuzzer } from "../../src/testing/fuzz.ts";

const CONTENT_TYPES = [
  "application/json",
  "application/x-msgpack",
  "application/x-yaml",
  "application/x-python-serialize",
  undefined,
  "text/plain",
];
const REASONS = [
  "envelope",
  "content_type",
  "content_encoding",
  "pickle",
  "body",
  "too_large",
  "not_an_event",
  "type",
  "uuid",
  "timestamp",
];
const packr = new Packr({ useRecords: false, variableMapSize: true });
/** Seeded, so that a failure can be reproduced; stops early on a busy machine. */
const options = { seed: 20_261_122, numRuns: 2_000, interruptAfterTimeLimit: 5_000 };

/** Rules for any result. */
function check({ events, rejected }: Decoded): void {
  for (const { reason, detail, raw, count } of rejected) {
    expect(count).toBeGreaterThanOrEqual(1);
    expect(REASONS).toContain(reason);
    expect(detail).not.toBe("");
    expect(raw.length).toBeLessThanOrEqual(4_096);
  }
  for (const event of events) expect(eventProblems(event)).toEqual([]);
}

/** Every input gives events or rejects, except an empty list. */
function checkCounted(decoded: Decoded, isEmptyList: boolean): void {
  check(decoded);
  expect(isEmptyList || decoded.events.length + decoded.rejected.length > 0).toBe(true);
}

const ENCODINGS = ["utf-8", "binary", "utf-16", "nonsense"];

const LITERAL_PIECES = "( ) [ ] { } , : ' \" \\ a 1 - . e None True set() frozenset( ... x41 __proto__ 'k': 1,"
  .split(" ")
  .concat(" ", "\n", "\0", "\uD800");

const anything = fc.anything({
  withNullPrototype: false,
  withBigInt: false,
  maxDepth: 2,
  values: [fc.string({ unit: "binary", maxLength: 12 }), fc.double(), fc.boolean(), fc.constant(null)],
});

const eventLike = fc.record(
  {
    type: fc.oneof(fc.constantFrom("task-sent", "task-succeeded", "task-failed", "task-revoked", "worker-heartbeat"), anything),
    uuid: anything,
    hostname: anything,
    timestamp: fc.oneof(fc.double(), fc.constant(5)),
    name: anything,
    args: anything,
    eta: anything,
    retries: anything,
    runtime: anything,
    result: anything,
    parent_id: anything,
    signum: anything,
  },
  { requiredKeys: ["type", "timestamp"] },
);

/** The number of events and messages that these entries count. */
function sumOf(rejected: readonly Rejected[]): number {
  return rejected.reduce((sum, { count }) => sum + count, 0);
}

/** How often a run gave events, and how often rejects: a fuzzer that reaches only one of them proves little. */
class Tally {
  events = 0;
  rejects = 0;

  add({ events, rejected }: Decoded): void {
    this.events += events.length;
    this.rejects += sumOf(rejected);
  }
}

describe("whatever the bytes are, they become events or counted rejects", () => {
  it("recorded frames changed as bytes, text, JSON, msgpack, YAML, envelope and field values (scripts/fuzz.mjs runs a million)", () => {
    const fuzzer = new Fuzzer(options.seed);
    for (let frame = 0; frame < 2_000; frame++) fuzzer.next();
    const { events, rejects, literals } = fuzzer.tally;
    expect(Math.min(events, literals)).toBeGreaterThan(500);
    expect(Object.keys(rejects).toSorted()).toEqual(REASONS.toSorted());
  });

  it("random bytes with any content type and encoding", () => {
    const tally = new Tally();
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.constantFrom(...CONTENT_TYPES),
        fc.constantFrom(...ENCODINGS),
        (body, contentType, contentEncoding) => {
          const decoded = decodeFrame({ body, contentType, contentEncoding });
          checkCounted(decoded, decoded.rejected.length === 0);
          check(decodeEnvelope(body));
          tally.add(decoded);
        },
      ),
      options,
    );
    expect(tally.rejects).toBeGreaterThan(100);
  });

  it("random values in JSON, msgpack and YAML, as fields of events and on their own", () => {
    const tally = new Tally();
    fc.assert(
      fc.property(fc.oneof(anything, eventLike, fc.array(eventLike)), (value) => {
        const text = JSON.stringify(value) ?? "null";
        const bodies = [
          { body: text, contentType: "application/json" },
          { body: text, contentType: "application/x-yaml" },
          { body: packr.pack(JSON.parse(text)), contentType: "application/x-msgpack" },
        ];
        for (const frame of bodies) {
          const decoded = decodeFrame(frame);
          checkCounted(decoded, text === "[]");
          tally.add(decoded);
        }
      }),
      options,
    );
    expect(Math.min(tally.events, tally.rejects)).toBeGreaterThan(10);
  });

  it("lists of any length: every item becomes an event or is counted once", () => {
    const items = fc.array(fc.oneof(eventLike, fc.constantFrom(null, 1, "x", {}, { type: "task-sent", timestamp: 1 })), {
      maxLength: 400,
      size: "max",
    });
    let folded = 0;
    fc.assert(
      fc.property(items, (list) => {
        const decoded = decodeFrame({ body: JSON.stringify(list), contentType: "application/json" });
        check(decoded);
        expect(decoded.events.length + sumOf(decoded.rejected)).toBe(list.length);
        expect(decoded.rejected.length).toBeLessThanOrEqual(100 + REASONS.length);
        if (decoded.rejected.some(({ count }) => count > 1)) folded += 1;
      }),
      { ...options, numRuns: 100 },
    );
    expect(folded).toBeGreaterThan(5);
  });

  it("random strings as Python literals become JSON or not", () => {
    let parsedCount = 0;
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...LITERAL_PIECES), { maxLength: 16 }), (parts) => {
        const parsed = parsePythonLiteral(parts.join(""));
        const value = parsed.ok ? parsed.value : null;
        expect(JSON.parse(JSON.stringify(value))).toEqual(value);
        if (parsed.ok) parsedCount += 1;
      }),
      { ...options, numRuns: 20_000 },
    );
    expect(parsedCount).toBeGreaterThan(100);
  });
});
