import { describe, expect, it } from "vitest";
import { TaskCounts, type FinalState } from "../src/comparison.ts";
import { drain } from "../src/drain.ts";
import type { CountedMetrics } from "../src/sides.ts";
import type { Workload } from "../src/workload.ts";

const TIMING = { deadlineMs: 1_500, lastLookMs: 300 };

function counts(tasks: number): TaskCounts {
  const result = new TaskCounts();
  result.add("shop.pay", "SUCCESS" satisfies FinalState, tasks);
  return result;
}

function workload(overrides: Partial<Workload> = {}): Workload {
  return {
    description: "",
    sent: 2,
    failed: new Promise<never>(() => {}),
    finish: async () => {},
    outcome: () => ({ ended: counts(2), withoutEnd: new Map([["IGNORED", 1]]) }),
    stop: async () => {},
    ...overrides,
  };
}

/** Datadog's side, with a count of successes that changes over time. */
function sinkWith(successes: (elapsedMs: number) => number): Pick<CountedMetrics, "sums"> {
  const begunAt = Date.now();
  return {
    sums: (counter) =>
      counter !== "celery.task.success_count"
        ? []
        : [
            { taskName: "shop.pay", queue: "demo.payments", sum: successes(Date.now() - begunAt) },
            { taskName: "shop.pay", queue: "payments", sum: 7 }, // another application's
          ],
  };
}

describe("the drain", () => {
  const options = {
    table: { finished: async () => counts(2) },
    scrapedUrl: undefined,
    settings: { metricPrefix: "celery.", queuePrefix: "demo." },
    timing: TIMING,
  };

  it("waits until what is on its way has arrived", async () => {
    const sink = sinkWith((elapsedMs) => (elapsedMs > 400 ? 2 : 1));
    const { comparison, withoutEnd } = await drain({ ...options, workload: workload(), sink });
    expect(comparison.agrees).toBe(true);
    expect(withoutEnd).toEqual(new Map([["IGNORED", 1]]));
  });

  it("notices what is counted twice, even late", async () => {
    const sink = sinkWith((elapsedMs) => (elapsedMs > 200 ? 3 : 2));
    const { comparison } = await drain({ ...options, workload: workload(), sink });
    expect(comparison.rows).toEqual([
      { name: "shop.pay", state: "SUCCESS", celery: 2, datadog: 3, postgres: 2, prometheus: undefined, agrees: false },
    ]);
  });

  it("ends at the deadline when something is missing", async () => {
    const begunAt = Date.now();
    const { comparison } = await drain({ ...options, workload: workload(), sink: sinkWith(() => 1) });
    expect(comparison.agrees).toBe(false);
    expect(Date.now() - begunAt).toBeGreaterThanOrEqual(TIMING.deadlineMs);
  });

  it("ends at the deadline when tasks do not", async () => {
    const hanging = workload({
      finish: () => new Promise<never>(() => {}),
      outcome: () => ({ ended: new TaskCounts(), withoutEnd: new Map() }),
    });
    const { comparison } = await drain({ ...options, workload: hanging, sink: sinkWith(() => 2) });
    expect(comparison.agrees).toBe(false);
  });

  it("rejects when the workload has failed", async () => {
    const failing = workload({ failed: Promise.reject(new Error("the worker has ended")), finish: () => new Promise<never>(() => {}) });
    await expect(drain({ ...options, workload: failing, sink: undefined })).rejects.toThrow("the worker has ended");
  });
});
