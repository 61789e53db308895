import { Health, createLogger } from "@celery-metrics-exporter/runtime";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Holding } from "../../src/hold/holding.ts";

const MINUTE_MS = 60_000;
const refusal = new Error("no");
let health: Health;
let messages: unknown[];
let there: (id: string) => boolean;
let lookedAt: number;
let ends: number;
let holding: Holding;

beforeEach(() => {
  vi.useFakeTimers();
  health = new Health();
  messages = [];
  there = () => true;
  lookedAt = 0;
  const write = (line: string): void => void messages.push((JSON.parse(line) as { msg: string }).msg);
  ends = 0;
  holding = new Holding({
    component: health.component("held"),
    logger: createLogger("test", "info", { write }),
    held: {
      missing: async (ids) => {
        lookedAt += ids.length;
        return ids.filter((id) => !there(id));
      },
    },
    onEnd: () => void (ends += 1),
  });
});
afterEach(() => {
  holding.close();
  vi.useRealTimers();
});

const BEGAN = "batches are held: they stay in the queue and are retried";
const ENDED = "batches go through again";

describe("held batches", () => {
  it("stay reported as long as one is in the queue, however long nobody looks at it", async () => {
    holding.add("a", "nothing gets through", refusal);
    await vi.advanceTimersByTimeAsync(30 * MINUTE_MS);
    expect(health.report().ready).toBe(false);
    expect(messages).not.toContain(ENDED);
    // Another process has finished it.
    there = () => false;
    await vi.advanceTimersByTimeAsync(MINUTE_MS);
    expect(health.report().ready).toBe(true);
    expect(messages).toEqual([BEGAN, ENDED]);
  });

  it("are watched to their end if they are reported elsewhere", async () => {
    holding.addReported("a");
    await vi.advanceTimersByTimeAsync(MINUTE_MS);
    expect([health.report().ready, ends, messages]).toEqual([true, 0, []]);
    there = () => false;
    await vi.advanceTimersByTimeAsync(MINUTE_MS);
    expect(ends).toBe(1);
    holding.add("b", "nothing gets through", refusal);
    holding.done("b", true);
    expect(ends).toBe(1);
  });

  it("end when the last one is done here", () => {
    for (const id of ["a", "b"]) holding.add(id, "nothing gets through", refusal);
    holding.done("a", true);
    holding.done("unknown", true);
    expect(health.report().ready).toBe(false);
    holding.done("b", true);
    expect(health.report().ready).toBe(true);
  });

  it("take little memory and few checks, however many there are", async () => {
    for (let id = 0; id < 50_000; id++) holding.add(String(id), "upgrade this process", refusal);
    await vi.advanceTimersByTimeAsync(MINUTE_MS);
    expect(lookedAt).toBeLessThanOrEqual(300);
    there = () => false;
    await vi.advanceTimersByTimeAsync(MINUTE_MS);
    expect(lookedAt).toBeLessThan(11_000);
    expect(health.report().ready).toBe(true);
  });

  it("are waited for longer and longer, until the sink takes something", async () => {
    vi.useRealTimers();
    const waitMs = async (): Promise<number> => {
      const before = performance.now();
      await holding.wait(100, new AbortController().signal);
      return performance.now() - before;
    };
    await waitMs();
    holding.done("asked nothing", false);
    await waitMs();
    holding.done("asked nothing", false);
    expect(await waitMs()).toBeGreaterThan(950);
    holding.done("served", true);
    expect(await waitMs()).toBeLessThan(950);
  });
});
