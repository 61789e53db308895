import { taskFailed, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { summarise, type Settlement } from "../../src/completions/summarise.ts";
import type { TaskStore } from "../../src/task-store.ts";
import { StoreHarness } from "../store-harness.ts";

const EXPIRY_SECONDS = 1;

let harness: StoreHarness;
let store: TaskStore;
beforeAll(async () => {
  harness = await StoreHarness.start({ taskExpirySeconds: EXPIRY_SECONDS, sentExpirySeconds: 60 });
  store = harness.store;
});
beforeEach(() => harness.clear());
afterAll(() => harness.close());

function started(...ids: readonly string[]): TaskEvent[] {
  return ids.map((uuid) => taskStarted({ uuid }));
}

async function send(...ids: readonly string[]): Promise<void> {
  const sent = new Map<string, Settlement>();
  for (const [id, claim] of await store.claim("1", ids)) if (claim.outcome === "claimed") sent.set(id, summarise(claim.entry));
  await store.settle("1", sent);
}

/** Resolves when the last entry has expired, and the second in which it is counted is over. */
async function untilExpired(): Promise<number> {
  let expired = 0;
  await expect
    .poll(
      async () => {
        const swept = await store.sweep();
        expired += swept.expired;
        return swept.open;
      },
      { timeout: 10_000 },
    )
    .toBe(0);
  return expired;
}

describe("a task that never finishes", () => {
  it("is open until its entry expires, and then counted once, whoever asks", async () => {
    await store.apply(started("a", "b", "c"));
    expect(await store.sweep()).toEqual({ expired: 0, open: 3 });
    expect(await untilExpired()).toBe(3);
    expect(await Promise.all([store.sweep(), store.sweep()])).toEqual([
      { expired: 0, open: 0 },
      { expired: 0, open: 0 },
    ]);
    expect(await harness.redis.dbsize()).toBe(0);
  });

  it("is counted if it had ended but could not be sent", async () => {
    await store.apply([taskSucceeded({ uuid: "a" })]);
    await store.claim("1", ["a"]);
    expect(await untilExpired()).toBe(1);
  });

  it("stays open while events of it come", async () => {
    await store.apply(started("a"));
    for (let second = 0; second < 3; second++) {
      await sleep(500);
      await store.apply([taskStarted({ uuid: "a", timestamp: 1_000 + second })]);
      expect(await store.sweep()).toEqual({ expired: 0, open: 1 });
    }
    expect(await untilExpired()).toBe(1);
  });
});

describe("a task that was sent", () => {
  it("is not open any more, and never counted", async () => {
    await store.apply([...started("a", "b"), taskSucceeded({ uuid: "a" }), taskFailed({ uuid: "b" })]);
    await send("a", "b");
    expect(await store.sweep()).toEqual({ expired: 0, open: 0 });
    await store.apply([taskSent({ uuid: "a" }), taskSucceeded({ uuid: "a" })]);
    expect(await store.sweep()).toEqual({ expired: 0, open: 0 });
  });

  it("is not opened again by a late start of the run that was reported", async () => {
    await store.apply([taskSucceeded({ uuid: "a", timestamp: 2_000 })]);
    await send("a");
    await store.apply([taskStarted({ uuid: "a", timestamp: 1_000 })]);
    expect(await store.sweep()).toEqual({ expired: 0, open: 0 });
    await store.apply([taskStarted({ uuid: "a", timestamp: 3_000 })]);
    expect(await store.sweep()).toEqual({ expired: 0, open: 1 });
  });

  it("is open again for a further run, and counted if that never ends", async () => {
    await store.apply([...started("a"), taskSucceeded({ uuid: "a" })]);
    await send("a");
    await store.apply([taskStarted({ uuid: "a", hostname: "w2@host-b" })]);
    expect(await store.sweep()).toEqual({ expired: 0, open: 1 });
    await store.apply([taskSucceeded({ uuid: "a", hostname: "w2@host-b" })]);
    await send("a");
    expect(await store.sweep()).toEqual({ expired: 0, open: 0 });
  });
});

describe("a task in a second life", () => {
  const first = [...started("a"), taskSucceeded({ uuid: "a", timestamp: 2e9 })];
  const second = taskStarted({ uuid: "a", timestamp: 2e9 + 5 });

  it("is open when its start was known before the first one was sent", async () => {
    await store.apply([...first, second]);
    await send("a");
    expect(await store.sweep()).toEqual({ expired: 0, open: 1 });
  });

  it("is open when its start comes while the first one is sent", async () => {
    await store.apply(first);
    const claim = (await store.claim("1", ["a"])).get("a");
    await store.apply([second]);
    if (claim?.outcome !== "claimed") throw new Error("not claimed");
    await store.settle("1", new Map([["a", summarise(claim.entry)]]));
    expect(await store.sweep()).toEqual({ expired: 0, open: 1 });
    await store.apply([taskSucceeded({ uuid: "a", timestamp: 2e9 + 6 })]);
    await send("a");
    expect(await store.sweep()).toEqual({ expired: 0, open: 0 });
  });
});

describe("a task that is forgotten", () => {
  it("is not counted", async () => {
    await store.apply(started("a", "b"));
    await store.forget(["a", "nobody"]);
    expect(await store.sweep()).toEqual({ expired: 0, open: 1 });
    expect(await untilExpired()).toBe(1);
  });
});
