/** A count that was read never falls for the reader, though late events move what was counted. */
import { scaled } from "@celery-metrics-exporter/testkit";
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import { SENT_AT, deliveries, taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import * as fc from "fast-check";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { CountsHarness, expectedOf, sorted, totalsOf } from "./counts-harness.ts";

let harness: CountsHarness;
beforeAll(async () => {
  harness = await CountsHarness.start();
});
beforeEach(() => harness.clear());
afterAll(() => harness.close());

const DEFAULT = "shop/cart/total@unknown.received";
const MAIL = "shop/cart/total@mail.received";

/** `t` counts as received from an unknown queue, then its `task-sent` comes late. */
function received(uuid: string): TaskEvent {
  return taskReceived({ uuid });
}
function late(uuid: string): TaskEvent {
  return taskSent({ uuid, queue: "mail" });
}

it("holds what was read until it is caught up, and then disappears", async () => {
  const counts = harness.process();
  await counts.add([received("t")]);
  await counts.giveUpWaiting(["t"]);
  expect((await totalsOf(counts)).get(DEFAULT)).toBe(1);
  await counts.add([late("t")]);
  expect(await harness.counts()).not.toHaveProperty(DEFAULT);
  expect(await harness.floors()).toEqual({ [DEFAULT]: "1" });
  expect(Object.fromEntries(await totalsOf(counts))).toMatchObject({ [DEFAULT]: 1, [MAIL]: 1 });
  // Of the same shard, so that it catches up.
  await counts.add([taskReceived({ uuid: "t", timestamp: SENT_AT + 5, hostname: "w2@host-b", name: "shop.cart.total" })]);
  const ids = Array.from({ length: 40 }, (_, index) => `other-${index}`);
  await counts.add(ids.map(received));
  await counts.giveUpWaiting(ids);
  expect((await totalsOf(counts)).get(DEFAULT)).toBe(40);
  expect(await harness.floors()).toEqual({});
});

it("has none for what nobody read", async () => {
  const counts = harness.process();
  await counts.read();
  await counts.add([received("t")]);
  await counts.giveUpWaiting(["t"]);
  await counts.add([late("t")]);
  expect(await harness.floors()).toEqual({});
  expect((await totalsOf(counts)).has(DEFAULT)).toBe(false);
});

it("has none for gauges", async () => {
  const counts = harness.process();
  await counts.add([taskSent({ uuid: "t" })]);
  const gauges = async (): Promise<string[]> => [...(await totalsOf(counts)).keys()].filter((field) => field.includes(".q"));
  expect(await gauges()).toHaveLength(1);
  await counts.add([received("t"), taskStarted({ uuid: "t" }), taskSucceeded({ uuid: "t" })]);
  expect(await gauges()).toEqual([]);
  expect(await harness.floors()).toEqual({});
});

it("never lets a count fall for any reader, in any delivery", async () => {
  await fc.assert(
    fc.asyncProperty(deliveries, fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }), async ({ history, batches }, isRead) => {
      await harness.clear();
      const [one, other] = [harness.process(), harness.process()];
      let last = new Map<string, number>();
      const read = async (): Promise<void> => {
        const now = await totalsOf(one);
        const fallen = [...last].filter(([field, count]) => !field.includes(".q") && (now.get(field) ?? 0) < count);
        expect(fallen).toEqual([]);
        last = now;
      };
      for (const [index, batch] of batches.entries()) {
        const incomplete = await (index % 2 === 0 ? one : other).add(batch);
        if (isRead[index]) await read();
        await other.giveUpWaiting(incomplete);
        if (isRead[index + 20]) await read();
      }
      await read();
      const whole = await expectedOf(history, true);
      await other.giveUpWaiting(new Set(history.map(({ uuid }) => uuid)));
      expect(await harness.counts()).toEqual(whole);
      expect(sorted(await totalsOf(one))).toMatchObject(Object.fromEntries(Object.keys(whole).map((field) => [field, expect.any(Number)])));
    }),
    { numRuns: scaled(15, 40) },
  );
});

/** Waited 127 years: the client's clock stood still in 1970, and the worker's ran ahead. */
function longWait(uuid: string): TaskEvent[] {
  return [
    taskSent({ uuid, timestamp: 0 }),
    taskReceived({ uuid, timestamp: 3_999_999_999 }),
    taskStarted({ uuid, timestamp: 4_000_000_000 }),
  ];
}

it("begins a sum anew that fits no longer, and stores everything else of the batch", async () => {
  const counts = harness.process();
  await counts.add(longWait("first"));
  const [key = ""] = await harness.redis.keys("*:counts");
  const field = "shop/cart/total@celery.W";
  await harness.redis.hset(key, field, String(2n ** 63n - 1_000n));
  const ids = Array.from({ length: 40 }, (_, index) => `next-${index}`);
  await counts.add(ids.flatMap(longWait));
  const { "shop/cart/total@celery.started": started, [field]: sum = 0 } = await harness.counts();
  expect(started).toBe(41);
  expect(sum).toBeGreaterThan(0);
  expect(sum).toBeLessThanOrEqual(40 * 4e15);
});

it("never makes a count negative whose field was removed", async () => {
  const counts = harness.process();
  await counts.add([received("t")]);
  await counts.giveUpWaiting(["t"]);
  await counts.add([taskSent({ uuid: "waiting" })]);
  await harness.redis.del(await harness.redis.keys("*:counts"));
  await counts.add([late("t"), received("waiting")]);
  expect(await harness.counts()).toEqual({ [MAIL]: 1, "shop/cart/total@mail.sent": 1, "shop/cart/total@celery.received": 1 });
});
