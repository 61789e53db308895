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

/** One of each shape, with every field that there is. */
const WHOLE = [
  taskSent({ parent_id: "parent", eta: 5, expires: 6.5, again: true, excluded: true }),
  taskReceived({ retries: 2 }),
  taskSucceeded(),
  taskFailed({ exited: true }),
  taskRevoked({ signum: "15" }),
  workerHeartbeat(),
];

describe("an event that was stored", () => {
  it.each(corpusNames)("is read as it was, all of %s", (name) => {
    const { events } = readCorpus(name);
    expect(events.length).toBeGreaterThan(10);
    expect(events.map((event) => readStoredEvent(asStored(event)))).toEqual(events);
  });

  it("is read with what is our own: instants, marks, and texts that were redacted", () => {
    const hidden = taskFailed({ exception: "ExceptionWithTraceback()", traceback: "Traceback\nValueError: x" });
    for (const event of [...WHOLE, hidden]) expect(readStoredEvent(asStored(event))).toEqual(event);
  });

  it("is read without what only a newer release knows", () => {
    expect(readStoredEvent({ ...taskStarted(), clock: 5, "new-field": {} })).toEqual(taskStarted());
    expect(readStoredEvent({ ...taskReceived(), name: null })).not.toHaveProperty("name");
  });

  it.each<[string, unknown]>([
    ["nothing", null],
    ["a text", "x"],
    ["a list", [taskStarted()]],
    ["without any field", {}],
    ["without a timestamp and an id", { type: "task-failed" }],
    ["with a number for an id", { ...taskStarted(), uuid: 5 }],
    ["with an id that holds NUL", { ...taskStarted(), uuid: "a\0" }],
    ["with a text for a timestamp", { ...taskStarted(), timestamp: "NaN" }],
    ["with an object for a text", { ...taskFailed(), exception: { hidden: true } }],
    ["with a text for an ETA", { ...taskSent(), eta: "2026-01-01T00:00:00Z" }],
    ["with a number for a flag", { ...taskRevoked(), terminated: 1 }],
    ["with a text for a mark", { ...taskSent(), again: "yes" }],
  ])("is none: %s", (_given, value) => {
    expect(readStoredEvent(value)).toBeUndefined();
  });

  it("is an event as decoding makes it, or none, whatever one of its fields holds", () => {
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

it("knows the id of a task from what cannot be one", () => {
  expect(["task-1", "é"].map(isTaskId)).toEqual([true, true]);
  expect(["", "a\0", "x".repeat(513), 5, null, { hex: "a" }].map(isTaskId)).toEqual(Array(6).fill(false));
});
