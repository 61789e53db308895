import { decodeEnvelope, encodeEnvelope } from "@celery-metrics-exporter/celery";
import { seededRandom } from "@celery-metrics-exporter/testkit";
import { describe, expect, it } from "vitest";
import { simulateTask } from "../src/simulator.ts";

const FINAL_EVENTS: Readonly<Record<string, string>> = { SUCCESS: "task-succeeded", FAILURE: "task-failed", REVOKED: "task-revoked" };

describe("a simulated task", () => {
  const tasks = Array.from({ length: 500 }, (_, seed) => simulateTask(1_000, seededRandom(seed)));

  it("has events in order of time that end in its state", () => {
    for (const { state, events } of tasks) {
      const times = events.map(({ timestamp }) => timestamp);
      expect(times).toEqual(times.toSorted((one, other) => one - other));
      expect(events.at(-1)?.type).toBe(FINAL_EVENTS[state]);
    }
    expect(new Set(tasks.map(({ state }) => state))).toEqual(new Set(Object.keys(FINAL_EVENTS)));
  });

  it("sends events that the receiver reads as Celery's", () => {
    for (const { name, events } of tasks) {
      const decoded = decodeEnvelope(encodeEnvelope({ body: JSON.stringify(events), routingKey: "task.multi" }));
      expect(decoded.rejected).toEqual([]);
      expect(decoded.events.map(({ type }) => type)).toEqual(events.map(({ type }) => type));
      expect(decoded.events[0]).toMatchObject({ type: "task-sent", name });
    }
  });
});
