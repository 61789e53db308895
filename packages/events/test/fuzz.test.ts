import * as fc from "fast-check";
import { Packr } from "msgpackr";
import { describe, expect, it } from "vitest";
import { decodeFrame } from "../src/decode.ts";
import { decodeEnvelope } from "../src/envelope.ts";
import type { CeleryEvent } from "../src/event.ts";
import type { Decoded, Rejected } from "../src/frame.ts";
import { MAX_TIMESTAMP } from "../src/microseconds.ts";
import { parsePythonLiteral } from "../src/python-literal.ts";
import { corpusNames, readCorpus, type CorpusFrame } from "../src/testing/corpus.ts";

const CONTENT_TYPES = [
  "application/json",
  "application/x-msgpack",
  "application/x-yaml",
  "application/x-python-serialize",
  undefined,
  "text/plain",
];
const REASONS = ["envelope", "content_type", "content_encoding", "pickle", "body", "not_an_event", "type", "uuid", "timestamp"];
const packr = new Packr({ useRecords: false, variableMapSize: true });
/** Seeded, so that a failure comes again; ended early on a busy machine. */
const options = { seed: 20_261_122, numRuns: 2_000, interruptAfterTimeLimit: 5_000 };

/** What must hold of any result. */
function check({ events, rejected }: Decoded): void {
  for (const { reason, detail, raw, count } of rejected) {
    expect(count).toBeGreaterThanOrEqual(1);
    expect(REASONS).toContain(reason);
    expect(detail).not.toBe("");
    expect(raw.length).toBeLessThanOrEqual(2_048);
  }
  for (const event of events) checkEvent(event);
}

function checkEvent(event: CeleryEvent): void {
  expect(event.type).toMatch(/^[^\s\p{C}]{1,128}$/u);
  expect(event.timestamp >= 0 && event.timestamp <= MAX_TIMESTAMP).toBe(true);
  expect(event.hostname.length).toBeGreaterThan(0);
  for (const value of Object.values(event)) {
    if (typeof value === "string") expect(value.isWellFormed() && !value.includes("\0") && value.length <= 65_536).toBe(true);
    else if (typeof value === "number") expect(Number.isFinite(value)).toBe(true);
    else expect(typeof value).toBe("boolean");
  }
}

/** Everything gives events or rejects; only an empty list gives neither. */
function checkCounted(decoded: Decoded, isEmptyList: boolean): void {
  check(decoded);
  expect(isEmptyList || decoded.events.length + decoded.rejected.length > 0).toBe(true);
}

function bodyOf(frame: CorpusFrame): Buffer {
  return frame.transport === "amqp" ? frame.body : Buffer.from(frame.payload);
}

const frames = corpusNames.flatMap((name) => readCorpus(name).frames.filter((_, index) => index % 7 === 0));

/** One change of some bytes: flipped, put in, taken out, or moved. */
const change = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  kind: fc.constantFrom("flip", "insert", "delete", "repeat"),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }),
});
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

function mutate(body: Buffer, changes: readonly Change[]): Buffer {
  let mutated = body;
  for (const { at, kind, bytes } of changes) {
    const position = Math.floor(at * mutated.length);
    const before = mutated.subarray(0, position);
    const after = mutated.subarray(kind === "insert" || kind === "repeat" ? position : position + bytes.length);
    const middle = { flip: Buffer.from(bytes), insert: Buffer.from(bytes), delete: Buffer.alloc(0), repeat: before.subarray(-64) }[kind];
    mutated = Buffer.concat([before, middle, after]);
  }
  return mutated;
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

/** How many events and messages these entries tell of. */
function sumOf(rejected: readonly Rejected[]): number {
  return rejected.reduce((sum, { count }) => sum + count, 0);
}

/** How often a run ended in events, and in rejects: a fuzzer that reaches one side only proves little. */
class Tally {
  events = 0;
  rejects = 0;

  add({ events, rejected }: Decoded): void {
    this.events += events.length;
    this.rejects += sumOf(rejected);
  }
}

describe("whatever the bytes are, they become events or counted rejects", () => {
  it("recorded frames with changed bytes", () => {
    const mutated = fc.tuple(fc.constantFrom(...frames), fc.array(change, { minLength: 1, maxLength: 6 }));
    const tally = new Tally();
    fc.assert(
      fc.property(mutated, ([frame, changes]) => {
        const body = mutate(bodyOf(frame), changes);
        const decoded = frame.transport === "redis" ? decodeEnvelope(body) : decodeFrame({ body, ...frame.properties });
        checkCounted(decoded, false);
        tally.add(decoded);
      }),
      options,
    );
    expect(Math.min(tally.events, tally.rejects)).toBeGreaterThan(10);
  });

  it("random bytes of any content type and encoding", () => {
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

  it("random values in JSON, msgpack and YAML, inside fields of events and as a whole", () => {
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

  it("lists of any length: every item is an event or counted once", () => {
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

  it("random strings as Python literals are JSON or not", () => {
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
