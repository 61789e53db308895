import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isTaskId, readStoredEvent } from "../../src/model/event.ts";
import {
  taskFailed,
  taskReceived,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
  workerHeartbeat,
} from "../../src/testing/builders.ts";
import { corpusNames, readCorpus } from "../../src/testing/corpus.ts";
import { eventProblems } from "../../src/testing/event-problems.ts";

const asStored = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** One event of each shape, with every possible field. */
const WHOLE = [
  taskSent({ parent_id: "parent", eta: 5, expires: 6.5, again: true, excluded: true }),
  taskReceived({ retries: 2 }),
  taskSucceeded(),
  taskFailed({ exited: true }),
  taskRevoked({ signum: "15" }),
  workerHeartbeat({ pid: 12, loadavg: [0.5, 0.25, 1], sw_ident: "py-celery", sw_ver: "5.6.3", sw_sys: "Linux" }),
];

describe("a stored event", () => {
  it.each(corpusNames)("is read unchanged: all of %s", (name) => {
    const { events } = readCorpus(name);
    expect(events.length).toBeGreaterThan(10);
    expect(events.map((event) => readStoredEvent(asStored(event)))).toEqual(events);
  });

  it("is read with the fields we add: instants, marks, and redacted texts", () => {
    const hidden = taskFailed({ exception: "ExceptionWithTraceback()", traceback: "Traceback\nValueError: x" });
    for (const event of [...WHOLE, hidden]) expect(readStoredEvent(asStored(event))).toEqual(event);
  });

  it("is read without fields that only a newer release knows", () => {
    expect(readStoredEvent({ ...taskStarted(), clock: 5, "new-field": {} })).toEqual(taskStarted());
    expect(readStoredEvent({ ...taskReceived(), name: null })).not.toHaveProperty("name");
  });

  it.each<[string, unknown]>([
    ["nothing", null],
    ["a text", "x"],
    ["a list", [taskStarted()]],
    ["without any field", {}],
    ["without a timestamp and an id", { type: "task-failed" }],
    ["with a number as its id", { ...taskStarted(), uuid: 5 }],
    ["with an id that contains NUL", { ...taskStarted(), uuid: "a\0" }],
    ["with a text as its timestamp", { ...taskStarted(), timestamp: "NaN" }],
    ["with an object as a text", { ...taskFailed(), exception: { hidden: true } }],
    ["with a text as an ETA", { ...taskSent(), eta: "2026-01-01T00:00:00Z" }],
    ["with a number as a flag", { ...taskRevoked(), terminated: 1 }],
    ["with a text as a load", { ...workerHeartbeat(), loadavg: "1 2" }],
    ["with a text in a load", { ...workerHeartbeat(), loadavg: [1, "2"] }],
    ["with a text as a mark", { ...taskSent(), again: "yes" }],
  ])("is none: %s", (_given, value) => {
    expect(readStoredEvent(value)).toBeUndefined();
  });

  it("is either a valid event or none, whatever one of its fields contains", () => {
    const events = WHOLE.map(asStored) as Readonly<Record<string, unknown>>[];
    const tally = { read: 0, refused: 0 };
    const field = fc.constantFrom(...new Set(events.flatMap((event) => Object.keys(event))));
    fc.assert(
      fc.property(fc.constantFrom(...events), field, fc.jsonValue({ maxDepth: 1 }), (event, name, value) => {
        const read = readStoredEvent({ ...event, [name]: value });
        if (read === undefined) return void (tally.refused += 1);
        tally.read += 1;
        expect(eventProblems(read)).toEqual([]);
      }),
      { seed: 20_261_129, numRuns: 5_000, interruptAfterTimeLimit: 5_000 },
    );
    expect(Math.min(tally.read, tally.refused)).toBeGreaterThan(100);
  });
});

it("distinguishes task ids from values that cannot be one", () => {
  expect(["task-1", "é"].map(isTaskId)).toEqual([true, true]);
  expect(["", "a\0", "x".repeat(513), 5, null, { hex: "a" }].map(isTaskId)).toEqual(Array(6).fill(false));
});
