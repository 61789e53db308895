import { createLogger } from "../src/log/logger.ts";
import { Health } from "../src/process/health.ts";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Outage } from "../src/outage.ts";

let health: Health;
let lines: Record<string, unknown>[];
let outage: Outage;

beforeEach(() => {
  vi.useFakeTimers();
  health = new Health();
  lines = [];
  const logger = createLogger("test", "info", { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  outage = new Outage({ component: health.component("sink"), logger, began: "began", ended: "ended" });
});
afterEach(() => void vi.useRealTimers());

describe("an outage of a component", () => {
  it("is logged when it begins, at growing intervals, and when it ends", () => {
    for (let second = 0; second < 600; second++) {
      outage.failed({ reason: "refused" });
      vi.advanceTimersByTime(1_000);
    }
    outage.served();
    expect(lines.map(({ msg, seconds }) => [msg, seconds])).toEqual([
      ["began", undefined],
      ["began", 60],
      ["began", 120],
      ["began", 240],
      ["began", 480],
      ["ended", 600],
    ]);
  });

  it("is logged with each new reason, and the error that explains it", () => {
    const bug = new TypeError("cannot read");
    for (let round = 0; round < 5; round++) {
      outage.failed({ reason: "violates a constraint", err: new Error("23514") });
      outage.failed({ reason: "cannot read", err: bug });
    }
    expect(lines.map(({ reason }) => reason)).toEqual(["violates a constraint", "cannot read"]);
    expect(lines[1]?.["err"]).toMatchObject({ type: "TypeError" });
    expect(health.report().components["sink"]).toBe("cannot read");
    outage.served();
    outage.failed({ reason: "cannot read", err: bug });
    expect(lines.map(({ msg }) => msg)).toEqual(["began", "began", "ended", "began"]);
  });

  it("is logged a limited number of times, regardless of its reasons", () => {
    for (let id = 0; id < 1_000; id++) outage.failed({ reason: `task ${id}: refused` });
    expect(lines).toHaveLength(10);
  });
});
