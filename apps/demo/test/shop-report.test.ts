import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { SentCounter, outcomeOf } from "../src/celery.ts";

describe("the shop's report", () => {
  const tasks = {
    a: { name: "shop.pay", status: "SUCCESS" },
    b: { name: "shop.pay", status: "SUCCESS" },
    c: { name: "shop.feed", status: "REJECTED" },
    d: { name: "shop.skip", status: "IGNORED" },
    e: { name: "shop.slow", status: "STARTED" },
  } as const;

  it("contains what ended", () => {
    const { ended, withoutEnd } = outcomeOf({ tasks });
    expect(ended.get("shop.pay", "SUCCESS")).toBe(2);
    expect(ended.get("shop.feed", "REJECTED")).toBe(1);
    expect(ended.total).toBe(3);
    expect(Object.fromEntries(withoutEnd)).toEqual({ IGNORED: 1, STARTED: 1 });
  });
});

/** A line of the shop's log. */
function sent(retries: number): string {
  return `{"at": 1.5, "did": "sent", "id": "u", "name": "shop.pay", "queue": "q", "retries": ${retries}}\n`;
}

describe("the counter of sent tasks", () => {
  it("counts each task once, however the log grows", () => {
    const folder = mkdtempSync(join(tmpdir(), "sent-counter-"));
    try {
      const log = join(folder, "shop.log");
      const counter = new SentCounter(log);
      expect(counter.count()).toBe(0);
      appendFileSync(log, `${sent(0)}{"at": 2, "did": "started", "id": "u"}\n${sent(0).slice(0, 20)}`);
      expect(counter.count()).toBe(1);
      appendFileSync(log, `${sent(0).slice(20)}${sent(1)}`);
      expect(counter.count()).toBe(2);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
