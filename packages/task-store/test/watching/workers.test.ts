/** The state of workers, in Redis, from events in any order. */
import type { Listened, WorkerEvent } from "@celery-metrics-exporter/celery";
import {
  LISTENING_CASES,
  LISTENING_HEARD_AGO,
  LISTENING_LIMIT_SECONDS,
  doubled,
  reportsOf,
  shuffled,
  split,
} from "@celery-metrics-exporter/celery/testing";
import { startRedis, type RedisServer, scaled } from "@celery-metrics-exporter/testkit";
import * as fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { Workers, type WorkerState, isUp, workersUp } from "../../src/watching/workers.ts";

const PURGE_SECONDS = 3_600;
const TIMEOUT_SECONDS = 300;
const NOW = Math.floor(Date.now() / 1_000) - 1_000;
const W1 = "w1@host-a";
const W2 = "w2@host-a";

let server: RedisServer;
let redis: Redis;
let workers: Workers;
beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  workers = new Workers({ redis, key: "workers", listenedKey: "listened", timeoutSeconds: TIMEOUT_SECONDS, purgeSeconds: PURGE_SECONDS });
});
beforeEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

async function all(now?: number): Promise<readonly WorkerState[]> {
  return (await workers.all(now)).states;
}

function listened(since: number, until: number, source = "broker"): Promise<void> {
  return workers.listened([{ type: "listened", source, since: NOW + since, timestamp: NOW + until }]);
}

function event(type: WorkerEvent["type"], hostname: string, second: number, fields: Partial<WorkerEvent> = {}): WorkerEvent {
  return { type, hostname, timestamp: NOW + second, ...fields };
}

it("is the same whatever the order of the events, however often they come, and whoever merges them", async () => {
  const history = [
    event("worker-online", W1, 0, { sw_ver: "5.6.3" }),
    event("worker-heartbeat", W1, 2, { active: 1, processed: 5 }),
    event("worker-heartbeat", W1, 4, { active: 3, processed: 6 }),
    event("worker-heartbeat", W1, 5),
    event("worker-heartbeat", W2, 1, { active: 2, processed: 1 }),
    event("worker-offline", W2, 6),
  ];
  const expected = [
    { worker: W1, isOnline: true, heardAt: NOW, silentSeconds: 0, heartbeatAt: NOW + 4, active: 3, processed: 6, version: "5.6.3" },
    { worker: W2, isOnline: false, heardAt: NOW, silentSeconds: 0, heartbeatAt: NOW + 1, active: 2, processed: 1, version: undefined },
  ];
  const orders = fc.shuffledSubarray([...history.slice(0, 5), ...history.slice(0, 5)], { minLength: 10 });
  await fc.assert(
    fc.asyncProperty(orders, async (events) => {
      await redis.flushall();
      const another = new Workers({
        redis,
        key: "workers",
        listenedKey: "listened",
        timeoutSeconds: TIMEOUT_SECONDS,
        purgeSeconds: PURGE_SECONDS,
      });
      for (const [index, each] of [...events, ...history.slice(5)].entries())
        await (index % 2 === 0 ? workers : another).merge([each], NOW);
      expect((await all(NOW)).map((state) => ({ ...state, version: undefined }))).toEqual(
        expected.map((state) => ({ ...state, version: undefined })),
      );
    }),
    { numRuns: scaled(10, 30) },
  );
  await redis.flushall();
  await workers.merge(history, NOW);
  expect(await all(NOW)).toEqual(expected);
});

it("does not begin with a goodbye, and ends when a worker was not heard for long", async () => {
  await workers.merge([event("worker-offline", W1, 0)], NOW);
  expect(await all(NOW)).toEqual([]);
  await workers.merge([event("worker-heartbeat", W1, 0, { active: 0 })], NOW);
  await workers.merge([event("worker-heartbeat", W2, 0, { active: 0 })], NOW + 100);
  expect((await all(NOW + PURGE_SECONDS + 1)).map(({ worker }) => worker)).toEqual([W2]);
  expect(await redis.hkeys("workers")).toEqual([W2]);
});

it("refuses workers past its limit until those that are silent for minutes have made room", async () => {
  const invented = Array.from({ length: 5_000 }, (_, index) => event("worker-online", `w${index}@host-b`, 0));
  await workers.merge([event("worker-heartbeat", W1, 0, { active: 0 }), ...invented], NOW);
  await workers.merge([event("worker-heartbeat", W2, 1, { active: 0 }), event("worker-heartbeat", W1, 200)], NOW + 200);
  expect(await all(NOW + 200)).toHaveLength(5_000);
  expect((await all(NOW + 400)).map(({ worker }) => worker)).toEqual([W1]);
  await workers.merge([event("worker-heartbeat", W2, 401, { active: 0 })], NOW + 401);
  expect((await all(NOW + 800)).map(({ worker }) => worker)).toEqual([W1, W2]);
});

it("that came after Redis' clock was set back is not called down because receivers listened in what is the future now", async () => {
  const ahead = NOW + 10_000;
  const sources = ["broker", "removed"].flatMap((source) => [source, JSON.stringify({ till: ahead, enough: ahead })]);
  await redis.hset(`listened:${TIMEOUT_SECONDS}`, ...sources);
  await workers.merge([event("worker-heartbeat", W1, 0, { active: 0 })], NOW);
  expect(await all(NOW)).toMatchObject([{ silentSeconds: 10_000 }]);
  await listened(-10, 5);
  expect(await all(NOW)).toMatchObject([{ silentSeconds: 0 }]);
  expect((await workers.all(NOW)).listenedUntil).toBe(NOW + 5);
  await listened(-10, TIMEOUT_SECONDS + 1);
  expect(await all(NOW)).toMatchObject([{ silentSeconds: TIMEOUT_SECONDS + 1 }]);
});

const withTimeout = (timeoutSeconds: number) =>
  new Workers({ redis, key: "workers", listenedKey: "listened", timeoutSeconds, purgeSeconds: PURGE_SECONDS });

describe("a worker that is silent", () => {
  it.each(LISTENING_CASES)("is down if the receivers would have heard it: $name", async (listening) => {
    const now = Math.floor(Date.now() / 1_000);
    const limit = LISTENING_LIMIT_SECONDS;
    const judged = new Workers({ redis, key: "workers", listenedKey: "listened", timeoutSeconds: limit, purgeSeconds: PURGE_SECONDS });
    // Its own clock is an hour behind.
    await judged.merge([event("worker-heartbeat", W1, -3_600, { active: 0 })], now - LISTENING_HEARD_AGO);
    for (const report of reportsOf(listening, now)) await judged.listened([report]);
    const [state] = (await judged.all(now)).states;
    if (state === undefined) throw new Error("no worker");
    const heardAt = now - LISTENING_HEARD_AGO;
    const expected = listening.isGone ? [false, false, false] : [true, true, undefined];
    expect([0, 15, 16].map((late) => isUp(state, limit, heardAt + limit + late))).toEqual(expected);
    expect(isUp({ ...state, isOnline: false }, limit, heardAt)).toBe(false);
  });

  it("stays down while receivers are restarted", async () => {
    await workers.merge([event("worker-heartbeat", W1, 0, { active: 0 })], NOW);
    await listened(-50, 301);
    expect((await all(NOW))[0]?.silentSeconds).toBe(301);
    for (const since of [303, 500, 610, 700]) {
      await listened(since, since + 90);
      expect((await all(NOW))[0]?.silentSeconds).toBe(301);
    }
  });

  it("is not judged by what was enough for a shorter timeout", async () => {
    await workers.merge([event("worker-heartbeat", W1, 0, { active: 0 })], NOW - 1_000);
    await withTimeout(30).listened([{ type: "listened", source: "broker", since: NOW - 40, timestamp: NOW }]);
    expect((await withTimeout(30).all(NOW)).states[0]?.silentSeconds).toBe(1_000);
    expect((await withTimeout(300).all(NOW)).states[0]?.silentSeconds).toBe(0);
  });

  it("is counted only if that is known of all", async () => {
    const up = async (second: number) => workersUp(await workers.all(NOW), 300, NOW + second);
    expect(await up(0), "no receiver has reported that it listens").toBeUndefined();
    await listened(-50, 10);
    expect([await up(10), await up(325), await up(326)]).toEqual([0, 0, undefined]);
    await workers.merge([event("worker-heartbeat", W1, 0, { active: 0 })], NOW);
    await workers.merge([event("worker-heartbeat", W2, 0, { active: 0 })], NOW + 20);
    expect([await up(10), await up(315), await up(316)]).toEqual([2, 2, undefined]);
    await listened(0, 301);
    expect(await up(316)).toBe(1);
  });
});

it("are judged by the clock of Redis, whatever the clocks of the processes that store what receivers report", async () => {
  const now = Date.now() / 1_000;
  const clock = vi.spyOn(Date, "now").mockReturnValue((now - 400) * 1_000);
  try {
    await workers.merge([event("worker-heartbeat", W1, 0, { active: 0 })], now);
    // Without a time, it was heard now.
    await workers.merge([event("worker-heartbeat", W2, 0, { active: 0 })]);
  } finally {
    clock.mockRestore();
  }
  await workers.listened([{ type: "listened", source: "broker", since: now - 1_000, timestamp: now }]);
  const states = await all(now);
  expect(states.map(({ silentSeconds }) => Math.round(silentSeconds))).toEqual([0, 0]);
});

it("were heard now at the latest, even if the receiver's clock is ahead", async () => {
  await workers.merge([event("worker-heartbeat", W1, 100_000, { active: 0 })], NOW + 86_400);
  await listened(-50, 86_400);
  const { states, listenedUntil = 0 } = await workers.all();
  const now = Date.now() / 1_000 + 0.1;
  expect(states[0]?.heardAt).toBeLessThanOrEqual(now);
  expect(states[0]?.heartbeatAt).toBeLessThanOrEqual(now + 60);
  expect(listenedUntil).toBeLessThanOrEqual(now);
});

const stored = async (batches: readonly (readonly Listened[])[]) => {
  await redis.flushall();
  await workers.merge([event("worker-heartbeat", W1, 0, { active: 0 })], NOW - 2_000);
  for (const batch of batches) await workers.listened(batch);
  return { hash: await redis.hgetall(`listened:${TIMEOUT_SECONDS}`), known: await workers.all(NOW) };
};

it("what receivers report leads to the same state in any order, repeated, and in any batches", async () => {
  const report = fc
    .record({
      since: fc.integer({ min: -2_000, max: 300 }),
      lasted: fc.integer({ min: -5, max: 700 }),
      source: fc.constantFrom("a", "b", "c"),
    })
    .map(({ since, lasted, source }): Listened => ({ type: "listened", source, since: NOW + since, timestamp: NOW + since + lasted }));
  const history = fc.array(report, { maxLength: 8 });
  const delivery = history.chain((reports) =>
    fc.record({ reports: fc.constant(reports), batches: doubled(reports).chain(shuffled).chain(split) }),
  );
  await fc.assert(
    fc.asyncProperty(delivery, async ({ reports, batches }) => {
      expect(await stored(batches)).toEqual(await stored(reports.map((each) => [each])));
    }),
    { numRuns: scaled(40, 200) },
  );
});

it("a source of which nothing comes for a day is forgotten", async () => {
  await listened(-90_000, -86_000, "old");
  await listened(-90_000, -85_000, "another");
  await listened(-100, 0);
  expect((await redis.hkeys(`listened:${TIMEOUT_SECONDS}`)).toSorted()).toEqual(["another", "broker", "old"]);
  await listened(-100, 900);
  expect((await redis.hkeys(`listened:${TIMEOUT_SECONDS}`)).toSorted()).toEqual(["another", "broker"]);
});

it("are known again soon after their own clock was ahead", async () => {
  await workers.merge([event("worker-heartbeat", W1, 7_200, { active: 3 }), event("worker-offline", W1, 7_200)], NOW);
  expect(await all(NOW)).toMatchObject([{ isOnline: false, active: 3 }]);
  await workers.merge([event("worker-online", W1, 100), event("worker-heartbeat", W1, 102, { active: 1 })], NOW + 102);
  expect(await all(NOW)).toMatchObject([{ isOnline: true, active: 1 }]);
});
