import { encodeBatch } from "@celery-metrics-exporter/pipeline";
import { describe, expect, it } from "vitest";
import { HIDDEN, hideTaskData, readable } from "../src/task-data.ts";

describe("hidden task data", () => {
  it.each(["args", "kwargs", "result", "exception", "traceback", "raw", "detail", "a_field_of_tomorrow"])(
    "hides %s at any depth",
    (field) => {
      const job = { v: 1, events: [{ type: "task-failed", uuid: "u1", [field]: "4111 1111", nested: { [field]: ["4111 1111"] } }] };
      const shown = hideTaskData(job);
      expect(JSON.stringify(shown)).not.toContain("4111");
      expect(shown).toMatchObject({
        v: 1,
        events: [{ type: "task-failed", uuid: "u1", [field]: HIDDEN, nested: { [field]: [HIDDEN] } }],
      });
    },
  );

  it("shows what identifies batches and tasks", () => {
    const letter = {
      source: "receiver",
      reason: "body",
      event: { type: "task-received", uuid: "u1", name: "shop.pay", hostname: "celery@a" },
    };
    expect(hideTaskData(letter)).toEqual(letter);
    expect(hideTaskData({ ids: ["u1", "u2"] })).toEqual({ ids: ["u1", "u2"] });
  });

  it("hides data that is not an object, and keeps empty values", () => {
    expect(hideTaskData("4111 1111")).toBe(HIDDEN);
    expect(hideTaskData(undefined)).toBeUndefined();
    expect(hideTaskData({ args: null, events: [] })).toEqual({ args: null, events: [] });
  });
});

describe("readable job data", () => {
  it("contains the events of a batch", () => {
    const event = { type: "task-received", uuid: "u1", hostname: "celery@a", timestamp: 1.5, name: "shop.pay", args: "('4111 1111',)" };
    const data = readable(encodeBatch({ broker: "redis", events: [event] }));
    expect(data).toEqual({ broker: "redis", events: [event] });
    expect(hideTaskData(data)).toEqual({ broker: "redis", events: [{ ...event, args: HIDDEN }] });
  });

  it.each([[{ v: 1, ids: ["u1"] }], [{ v: 4, texts: [] }], ["text"], [undefined]])("is %j itself if that is not a batch", (data) => {
    expect(readable(data)).toEqual(data);
  });

  it("is hidden entirely for a batch that cannot be decoded", () => {
    const { events, ...payload } = encodeBatch({ broker: "redis", events: [{ type: "custom", hostname: "4111 1111", timestamp: 1 }] });
    expect(JSON.stringify(hideTaskData(readable({ ...payload, v: 4, rows: events })))).not.toContain("4111");
  });
});
