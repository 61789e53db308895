import { decodeEnvelope } from "@celery-metrics-exporter/celery";
import { seededRandom } from "@celery-metrics-exporter/testkit";
import { describe, expect, it } from "vitest";
import { simulateTask } from "../src/demo/simulated-task.ts";

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

  it("sends what the receiver reads as Celery's events", () => {
    for (const { name, events } of tasks) {
      const body = Buffer.from(JSON.stringify(events)).toString("base64");
      const properties = { body_encoding: "base64", delivery_info: { exchange: "celeryev", routing_key: "task.multi" } };
      const decoded = decodeEnvelope(
        JSON.stringify({ body, "content-type": "application/json", "content-encoding": "utf-8", headers: {}, properties }),
      );
      expect(decoded.rejected).toEqual([]);
      expect(decoded.events.map(({ type }) => type)).toEqual(events.map(({ type }) => type));
      expect(decoded.events[0]).toMatchObject({ type: "task-sent", name });
    }
  });
});
