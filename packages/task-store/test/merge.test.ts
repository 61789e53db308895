import type { TaskEvent } from "@celery-metrics-exporter/events";
import { deliveries, taskFailed, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/events/testing";
import * as fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { summarise } from "../src/summarise.ts";
import { collectChanges } from "../src/task-changes.ts";
import { parseTaskEntry } from "../src/task-entry.ts";
import { expectedHash } from "./expected-hash.ts";
import { required } from "./required.ts";
import { StoreHarness } from "./store-harness.ts";

const PLAIN = { keepWorker: false, keepException: false };

let harness: StoreHarness;
beforeAll(async () => {
  harness = await StoreHarness.start();
});
beforeEach(() => harness.clear());
afterAll(() => harness.close());

async function storedHashes(ids: Iterable<string>): Promise<Map<string, Map<string, string>>> {
  return new Map(await Promise.all([...ids].map(async (id) => [id, await harness.hash(id)] as const)));
}

describe("merging events into the Store", () => {
  it("ends in the same entries and summaries in whatever order, batches and repetitions they come, and as merged in memory", async () => {
    await fc.assert(
      fc.asyncProperty(deliveries, async ({ history, batches }) => {
        await harness.clear();
        for (const batch of batches) await harness.store.apply(batch);

        const changes = collectChanges(history, PLAIN);
        const expected = new Map([...changes].map(([id, change]) => [id, expectedHash(change)]));
        const stored = await storedHashes(changes.keys());
        expect(stored).toEqual(expected);

        for (const [id, hash] of stored) {
          const backwards = [...hash].reverse().flat();
          const inMemory = [...(expected.get(id) ?? [])].flat();
          expect(summarise(parseTaskEntry(backwards))).toEqual(summarise(parseTaskEntry(inMemory)));
        }
      }),
      { numRuns: 200 },
    );
  });

  it("keeps the 16 latest facts of each kind, in whatever order they come", async () => {
    const starts = Array.from({ length: 200 }, (_, second) => taskStarted({ uuid: "t", timestamp: 1_000_000_000 + second }));
    const failures = Array.from({ length: 20 }, (_, second) => taskFailed({ uuid: "t", timestamp: 1_000_000_000.5 + second }));
    const expected = expectedHash(required(collectChanges([...starts, ...failures], PLAIN).get("t")));
    expect(expected.size).toBe(32);

    await harness.store.apply([...starts.toReversed(), ...failures]);
    expect(await harness.hash("t")).toEqual(expected);

    await harness.clear();
    for (const event of [...failures, ...starts, ...starts.slice(0, 3)].toReversed()) await harness.store.apply([event]);
    expect(await harness.hash("t")).toEqual(expected);
  });

  it("keeps the latest where their instants differ in length", async () => {
    const early = Array.from({ length: 10 }, (_, index) => taskStarted({ uuid: "t", timestamp: 3_000 + index }));
    const late = Array.from({ length: 10 }, (_, index) => taskStarted({ uuid: "t", timestamp: 3_900_000_000 + index }));
    for (const event of [...late, ...early]) await harness.store.apply([event]);
    expect(await harness.hash("t")).toEqual(expectedHash(required(collectChanges([...early, ...late], PLAIN).get("t"))));
    expect((await harness.hash("t")).size).toBe(16);
  });

  it.each<[string, TaskEvent[], { k: string; name: string; queue?: string }]>([
    [
      "the earliest task-sent",
      [taskSent({ timestamp: 20, name: "later" }), taskSent({ timestamp: 10, name: "earlier" })],
      { k: "10000000", name: "earlier" },
    ],
    [
      "the byte-wise smaller name at one instant",
      [taskSent({ timestamp: 10, name: "b" }), taskSent({ timestamp: 10, name: "B" }), taskSent({ timestamp: 10, name: "é" })],
      { k: "10000000", name: "B" },
    ],
    [
      "the byte-wise smaller queue, where names are the same too",
      [
        taskSent({ timestamp: 10, name: "a", queue: "y" }),
        taskSent({ timestamp: 10, name: "a", queue: "x" }),
        taskSent({ timestamp: 10, name: "a", queue: "z" }),
      ],
      { k: "10000000", name: "a", queue: "x" },
    ],
  ])("takes the name of %s", async (_, events, { k, name, queue = "celery" }) => {
    for (const order of [events, events.toReversed()]) {
      await harness.clear();
      for (const event of order) await harness.store.apply([{ ...event, uuid: "t" }]);
      const hash = await harness.hash("t");
      expect([hash.get("k"), hash.get("n"), hash.get("q")]).toEqual([k, name, queue]);
    }
  });

  it("leaves nothing behind of a longer name that gives way to a shorter", async () => {
    await harness.store.apply([taskSent({ uuid: "t", timestamp: 20, name: "long.".repeat(30), queue: "q".repeat(100) })]);
    await harness.store.apply([taskSent({ uuid: "t", timestamp: 10, name: "short", queue: "q" })]);
    const hash = await harness.hash("t");
    expect([...hash.keys()].filter((field) => /^[nq]/.test(field)).sort()).toEqual(["n", "q"]);
  });

  it("stays compact whatever the length of name and queue", async () => {
    const name = "возврат.".repeat(20);
    await harness.store.apply([taskSent({ uuid: "t", name, queue: "q".repeat(200) })]);
    expect(await harness.encoding("t")).toBe("listpack");
    const entry = parseTaskEntry([...(await harness.hash("t"))].flat());
    expect(name.startsWith(entry.name ?? "?")).toBe(true);
    expect(Buffer.byteLength(entry.name ?? "")).toBeGreaterThan(200);
    expect(entry.queue).toBe("q".repeat(200));
  });

  it("survives that Redis forgets its scripts", async () => {
    await harness.store.apply([taskStarted({ uuid: "t" })]);
    await harness.redis.script("FLUSH");
    expect(await harness.store.apply([taskSucceeded({ uuid: "t" }), taskSucceeded({ uuid: "u" })])).toHaveLength(2);
    expect((await harness.hash("t")).size).toBe(2);
  });
});
