import { readCorpus, taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { summarise, type Settlement } from "../../src/completions/summarise.ts";
import { StoreHarness } from "../store-harness.ts";

const TASKS = 10_000;
const GOAL_BYTES = 400;
/** As long as the ids of jobs are: a longer lease would make Redis store the entry in another form. */
const JOB_ID = "j0123456789AB";

let harness: StoreHarness;
beforeAll(async () => {
  harness = await StoreHarness.start();
});
beforeEach(() => harness.clear());
afterAll(() => harness.close());

/** Names and queues as the recorded shop has them. */
function shopTasks(): { name: string; queue: string }[] {
  const { expected } = readCorpus("celery-5.6-redis");
  return Object.values(expected).flatMap(({ name, queue }) =>
    typeof name === "string" && typeof queue === "string" ? [{ name, queue }] : [],
  );
}

async function usedMemory(): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await harness.redis.info("memory"))?.[1]);
}

async function fill(attempts: number): Promise<string[]> {
  const shop = shopTasks();
  const ids: string[] = [];
  for (let batch = 0; batch < TASKS / 100; batch++) {
    const events: TaskEvent[] = [];
    for (let index = 0; index < 100; index++) {
      const uuid = randomUUID();
      ids.push(uuid);
      const second = 1_795_328_900 + Math.random() * 1e5;
      const { name, queue } = shop[(batch * 100 + index) % shop.length] ?? { name: "shop.cart.total", queue: "celery" };
      for (let retries = 0; retries < attempts; retries++) {
        const at = second + retries * 20;
        events.push(taskSent({ uuid, timestamp: at, name, queue, retries, ...(retries > 0 && { eta: at + 3 }) }));
        events.push(taskReceived({ uuid, timestamp: at + Math.random(), name, retries, ...(retries > 0 && { eta: at + 3 }) }));
        events.push(taskStarted({ uuid, timestamp: at + 4 + Math.random() }));
      }
      events.push(taskSucceeded({ uuid, timestamp: second + attempts * 20, runtime: Math.random() * 10 }));
    }
    await harness.store.apply(events);
  }
  return ids;
}

describe("a task in the Store", () => {
  it(`takes at most ${GOAL_BYTES} bytes of used_memory with one attempt, claimed and sent included`, async () => {
    const empty = await usedMemory();
    const ids = await fill(1);
    const open = ((await usedMemory()) - empty) / TASKS;

    const sent = new Map<string, Settlement>();
    for (const [id, claim] of await harness.store.claim(JOB_ID, ids)) {
      if (claim.outcome === "claimed") sent.set(id, summarise(claim.entry));
    }
    const claimed = ((await usedMemory()) - empty) / TASKS;
    await harness.store.settle(JOB_ID, sent);
    const tombstone = ((await usedMemory()) - empty) / TASKS;
    console.info({ bytesPerTask: { open, claimed, tombstone } });

    expect(sent.size).toBe(TASKS);
    expect(open).toBeLessThanOrEqual(GOAL_BYTES);
    expect(claimed).toBeLessThanOrEqual(GOAL_BYTES + 60);
    expect(tombstone).toBeLessThanOrEqual(GOAL_BYTES);
  });

  it("stays compact with 16 attempts", async () => {
    const empty = await usedMemory();
    const [id = ""] = await fill(16);
    console.info({ bytesPerTaskOf16Attempts: ((await usedMemory()) - empty) / TASKS });
    expect(await harness.encoding(id)).toBe("listpack");
    expect((await harness.hash(id)).size).toBe(16 * 3 + 1 + 2);
  });
});
