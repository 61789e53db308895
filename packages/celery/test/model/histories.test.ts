import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { TaskEvent } from "../../src/model/event.ts";
import { normalise } from "../../src/model/normalise.ts";
import { isFinal } from "../../src/model/task-state.ts";
import { deliveries, doubled, shuffled, split, taskHistories } from "../../src/testing/histories.ts";

const samples = fc.sample(taskHistories, { seed: 7, numRuns: 500 });

function has(predicate: (history: readonly TaskEvent[]) => boolean): boolean {
  return samples.some(predicate);
}

function ofOneTask(history: readonly TaskEvent[]): readonly TaskEvent[] {
  return history.filter(({ uuid }) => uuid === history[0]?.uuid);
}

describe("taskHistories", () => {
  it("are events that the decoder could return", () => {
    for (const event of samples.flat()) expect(normalise(onTheWire(event))).toEqual(event);
  });

  it.each<readonly [string, (history: readonly TaskEvent[]) => boolean]>([
    ["equal timestamps", (history) => new Set(ofOneTask(history).map(({ timestamp }) => timestamp)).size < ofOneTask(history).length],
    ["two finals", (history) => ofOneTask(history).filter((event) => isFinal(event)).length > 1],
    [
      "two workers",
      (history) => new Set(ofOneTask(history).flatMap((event) => (event.type === "task-started" ? [event.hostname] : []))).size > 1,
    ],
    ["retries", (history) => history.some((event) => event.type === "task-retried")],
    ["requeued rejections", (history) => history.some((event) => event.type === "task-rejected" && event.requeue === true)],
    [
      "rejections with a failure",
      (history) => ["task-rejected", "task-failed"].every((type) => ofOneTask(history).some((event) => event.type === type)),
    ],
    ["tasks without a final", (history) => !history.some((event) => isFinal(event))],
    ["events without fields", (history) => history.some((event) => event.type === "task-sent" && event.name === undefined)],
    ["several tasks", (history) => new Set(history.map(({ uuid }) => uuid)).size > 1],
    ["ETAs", (history) => history.some((event) => "eta" in event)],
  ])("have %s", (_what, predicate) => {
    expect(has(predicate)).toBe(true);
  });
});

describe("the ways of delivery", () => {
  it("shuffle, repeat and split without losing or inventing an event", () => {
    fc.assert(
      fc.property(
        taskHistories.chain((history) => fc.tuple(fc.constant(history), shuffled(history), doubled(history), split(history))),
        ([history, inAnyOrder, withRepeats, batches]) => {
          expect(sorted(inAnyOrder)).toEqual(sorted(history));
          expect(withRepeats.slice(0, history.length)).toEqual(history);
          expect(new Set(withRepeats)).toEqual(new Set(history));
          expect(batches.flat()).toEqual(history);
          expect(batches.every((batch) => batch.length > 0)).toBe(true);
        },
      ),
      { seed: 7, numRuns: 100 },
    );
  });

  it("deliver every event of a history at least once", () => {
    fc.assert(
      fc.property(deliveries, ({ history, batches }) => {
        expect(new Set(batches.flat())).toEqual(new Set(history));
      }),
      { seed: 7, numRuns: 100 },
    );
  });
});

function onTheWire(event: TaskEvent): unknown {
  return { ...event, ...isoOf(event, "eta"), ...isoOf(event, "expires") };
}

function sorted(events: readonly TaskEvent[]): string[] {
  return events.map((event) => JSON.stringify(event)).sort();
}

function isoOf(event: TaskEvent, field: "eta" | "expires"): Record<string, string> {
  if (!(field in event)) return {};
  const seconds = Number(event[field as keyof TaskEvent]);
  const microseconds = Math.round(seconds * 1e6) % 1e6;
  const whole = new Date((Math.round(seconds * 1e6) - microseconds) / 1e3).toISOString().slice(0, 19);
  return { [field]: `${whole}.${String(microseconds).padStart(6, "0")}+00:00` };
}
