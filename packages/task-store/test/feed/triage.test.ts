import {
  TASK_ID,
  taskReceived,
  taskRejected,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import { describe, expect, it } from "vitest";
import { busyDelayMs, triage, type Triage } from "../../src/feed/triage.ts";
import type { Claim } from "../../src/task-store.ts";
import { entryOf } from "../summary-of.ts";

const RUN = [taskSent(), taskReceived(), taskStarted()];

/** What becomes of a task that waits for this long. */
function after(events: readonly TaskEvent[]): (waitedMs: number, incompleteWaitMs?: number, graceMs?: number) => Triage {
  const entry = entryOf(events);
  return (waitedMs, incompleteWaitMs = 60_000, graceMs = 2_000) =>
    triage(new Map<string, Claim>([[TASK_ID, { outcome: "claimed", entry, waitedMs }]]), { graceMs, incompleteWaitMs });
}

describe("a task that lacks something", () => {
  it("waits ten seconds for the end of a run that was terminated", () => {
    const becomes = after([...RUN, taskRevoked({ terminated: true })]);
    expect(becomes(9_999).incomplete.get(TASK_ID)).toBe("end");
    expect(becomes(10_000).ready.has(TASK_ID)).toBe(true);
    expect(becomes(500, 500).ready.has(TASK_ID)).toBe(true);
  });

  it("waits a second for the failure of a rejection, which the grace is part of", () => {
    const becomes = after([...RUN, taskRejected()]);
    expect(becomes(0).ready.has(TASK_ID)).toBe(true);
    expect(becomes(699, 60_000, 300).incomplete.get(TASK_ID)).toBe("failure");
    expect(becomes(700, 60_000, 300).ready.has(TASK_ID)).toBe(true);
    expect(becomes(200, 200, 300).ready.has(TASK_ID)).toBe(true);
  });

  it("does not wait where it lacks nothing", () => {
    expect(after([...RUN, taskSucceeded()])(0)).toMatchObject({ incomplete: new Map(), busy: [], busyForMs: 0 });
    expect(after([...RUN, taskSucceeded()])(0).ready.has(TASK_ID)).toBe(true);
  });

  it("waits for its start as long as it may", () => {
    const becomes = after([taskSent(), taskReceived(), taskSucceeded()]);
    expect(becomes(59_999).incomplete.get(TASK_ID)).toBe("start");
    expect(becomes(60_000).ready.has(TASK_ID)).toBe(true);
  });
});

describe("a task that another job holds", () => {
  it("is busy for as long as the last of them is", () => {
    const claims = new Map<string, Claim>([
      ["a", { outcome: "busy", freeInMs: 10 }],
      ["b", { outcome: "busy", freeInMs: 30 }],
      ["c", { outcome: "busy", freeInMs: 20 }],
      ["d", { outcome: "reported" }],
    ]);
    const expected = { ready: new Map(), incomplete: new Map(), busy: ["a", "b", "c"], busyForMs: 30 };
    expect(triage(claims, { graceMs: 0, incompleteWaitMs: 0 })).toEqual(expected);
  });

  it.each([
    ["claimed a moment ago, after a moment", 29_990, 250],
    ["held for 4 s, after 4 s more", 26_000, 4_000],
    ["held for nearly as long as its lease, when that is over", 2_000, 2_050],
  ])("%s is looked at again", (_, freeInMs, delayMs) => {
    expect(busyDelayMs(freeInMs, 30_000)).toBe(delayMs);
  });
});
