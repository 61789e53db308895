import { deliveries, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import * as fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { summarise } from "../../src/completions/summarise.ts";
import { collectChanges } from "../../src/facts/task-changes.ts";
import { parseTaskEntry } from "../../src/facts/task-entry.ts";
import { expectedHash } from "../expected-hash.ts";
import { StoreHarness } from "../store-harness.ts";

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

  it("stays compact whatever the length of name and queue", async () => {
    const name = "возврат.".repeat(20);
    await harness.store.apply([taskSent({ uuid: "t", name, queue: "q".repeat(200) })]);
    expect(await harness.encoding("t")).toBe("listpack");
    const entry = parseTaskEntry([...(await harness.hash("t"))].flat());
    const [queue, stored = "?"] = [...entry.texts.values()].sort();
    expect(name.startsWith(stored)).toBe(true);
    expect(Buffer.byteLength(stored)).toBeGreaterThan(200);
    expect(queue).toBe("q".repeat(200));
  });

  it("survives that Redis forgets its scripts", async () => {
    await harness.store.apply([taskStarted({ uuid: "t" })]);
    await harness.redis.script("FLUSH");
    expect(await harness.store.apply([taskSucceeded({ uuid: "t" }), taskSucceeded({ uuid: "u" })])).toHaveLength(2);
    expect((await harness.hash("t")).size).toBe(2);
  });
});
