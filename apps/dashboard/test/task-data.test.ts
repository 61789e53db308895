import { describe, expect, it } from "vitest";
import { HIDDEN, hideTaskData } from "../src/task-data.ts";

describe("hidden task data", () => {
  it.each(["args", "kwargs", "result", "exception", "traceback", "raw", "detail", "a_field_of_tomorrow"])(
    "hides %s at any depth",
    (field) => {
      const job = { version: 1, events: [{ type: "task-failed", uuid: "u1", [field]: "4111 1111", nested: { [field]: ["4111 1111"] } }] };
      const shown = hideTaskData(job);
      expect(JSON.stringify(shown)).not.toContain("4111");
      expect(shown).toMatchObject({
        version: 1,
        events: [{ type: "task-failed", uuid: "u1", [field]: HIDDEN, nested: { [field]: [HIDDEN] } }],
      });
    },
  );

  it("shows what tells batches and tasks apart", () => {
    const letter = {
      source: "receiver",
      reason: "body",
      event: { type: "task-received", uuid: "u1", name: "shop.pay", hostname: "celery@a" },
    };
    expect(hideTaskData(letter)).toEqual(letter);
    expect(hideTaskData({ ids: ["u1", "u2"] })).toEqual({ ids: ["u1", "u2"] });
  });

  it("hides data that is no object, and keeps what is empty", () => {
    expect(hideTaskData("4111 1111")).toBe(HIDDEN);
    expect(hideTaskData(undefined)).toBeUndefined();
    expect(hideTaskData({ args: null, events: [] })).toEqual({ args: null, events: [] });
  });
});
