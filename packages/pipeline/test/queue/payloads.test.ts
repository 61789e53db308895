import { taskFailed, taskStarted } from "@celery-metrics-exporter/celery/testing";
import { describe, expect, it } from "vitest";
import { MAX_PAYLOAD_CHARACTERS, MAX_PAYLOAD_EVENTS, decodeBatch, payloadsOf } from "../../src/queue/batch.ts";

const NOTHING = new Set<string>();
const MARKED = [{ id: "x", marks: ["-s0"] }];
const numbered = (count: number) => Array.from({ length: count }, (_, index) => taskStarted({ uuid: `task-${index}` }));

describe("payloadsOf", () => {
  it.each([0, 1, MAX_PAYLOAD_EVENTS])("makes one of %i events", (count) => {
    const batch = { broker: "redis", events: numbered(count), marked: MARKED };
    expect([...payloadsOf(batch, NOTHING)].map(decodeBatch)).toEqual([batch]);
  });

  it("splits a list of 100,000 events, keeps their order, and has the marked tasks in each part", () => {
    const events = numbered(100_000);
    const batches = [...payloadsOf({ broker: "redis", events, marked: MARKED }, NOTHING)].map(decodeBatch);
    expect(Math.max(...batches.map((batch) => batch.events.length))).toBeLessThanOrEqual(MAX_PAYLOAD_EVENTS);
    expect(batches.flatMap((batch) => batch.events)).toEqual(events);
    expect(batches.map(({ marked }) => marked)).toEqual(batches.map(() => MARKED));
  });

  it("splits long batches, but never an event", () => {
    const events = Array.from({ length: 200 }, (_, index) =>
      taskFailed({ uuid: `task-${index}`, traceback: `${index}${"x".repeat(65_000)}` }),
    );
    const payloads = [...payloadsOf({ broker: "redis", events }, NOTHING)];
    for (const { texts } of payloads) expect(texts.join("").length).toBeLessThanOrEqual(MAX_PAYLOAD_CHARACTERS);
    expect(payloads.flatMap((payload) => decodeBatch(payload).events)).toEqual(events);
    expect(payloads[0]).not.toHaveProperty("told");
    const huge = [taskFailed({ traceback: "x".repeat(MAX_PAYLOAD_CHARACTERS + 1) })];
    expect([...payloadsOf({ broker: "redis", events: huge }, NOTHING)]).toHaveLength(1);
  });

  it("does not count fields that the exporter omits", () => {
    const events = Array.from({ length: 200 }, (_, index) =>
      taskFailed({ uuid: `task-${index}`, traceback: `${index}${"x".repeat(65_000)}` }),
    );
    expect([...payloadsOf({ broker: "redis", events }, new Set(["traceback"]))]).toHaveLength(1);
  });
});
