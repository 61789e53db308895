/** The state of workers, in Redis, from events in any order. */
import type { WorkerEvent } from "@celery-metrics-exporter/celery";
import { startRedis, type RedisServer, scaled } from "@celery-metrics-exporter/testkit";
import * as fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { Workers, isUp } from "../../src/watching/workers.ts";

const PURGE_SECONDS = 3_600;
const NOW = Math.floor(Date.now() / 1_000) - 1_000;
const W1 = "w1@host-a";
const W2 = "w2@host-a";

let server: RedisServer;
let redis: Redis;
let workers: Workers;
beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  workers = new Workers({ redis, key: "workers", purgeSeconds: PURGE_SECONDS });
});
beforeEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

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
    { worker: W1, isOnline: true, heardAt: NOW, heartbeatAt: NOW + 4, active: 3, processed: 6, version: "5.6.3" },
    { worker: W2, isOnline: false, heardAt: NOW, heartbeatAt: NOW + 1, active: 2, processed: 1, version: undefined },
  ];
  const orders = fc.shuffledSubarray([...history.slice(0, 5), ...history.slice(0, 5)], { minLength: 10 });
  await fc.assert(
    fc.asyncProperty(orders, async (events) => {
      await redis.flushall();
      const another = new Workers({ redis, key: "workers", purgeSeconds: PURGE_SECONDS });
      for (const [index, each] of [...events, ...history.slice(5)].entries())
        await (index % 2 === 0 ? workers : another).merge([each], NOW);
      expect((await workers.all(NOW)).map((state) => ({ ...state, version: undefined }))).toEqual(
        expected.map((state) => ({ ...state, version: undefined })),
      );
    }),
    { numRuns: scaled(10, 30) },
  );
  await redis.flushall();
  await workers.merge(history, NOW);
  expect(await workers.all(NOW)).toEqual(expected);
});

it("does not begin with a goodbye, and ends when a worker was not heard for long", async () => {
  await workers.merge([event("worker-offline", W1, 0)], NOW);
  expect(await workers.all(NOW)).toEqual([]);
  await workers.merge([event("worker-heartbeat", W1, 0, { active: 0 })], NOW);
  await workers.merge([event("worker-heartbeat", W2, 0, { active: 0 })], NOW + 100);
  expect((await workers.all(NOW + PURGE_SECONDS + 1)).map(({ worker }) => worker)).toEqual([W2]);
  expect(await redis.hkeys("workers")).toEqual([W2]);
});

it("refuses workers past its limit until those that are silent for minutes have made room", async () => {
  const invented = Array.from({ length: 5_000 }, (_, index) => event("worker-online", `w${index}@host-b`, 0));
  await workers.merge([event("worker-heartbeat", W1, 0, { active: 0 }), ...invented], NOW);
  await workers.merge([event("worker-heartbeat", W2, 1, { active: 0 }), event("worker-heartbeat", W1, 200)], NOW + 200);
  expect(await workers.all(NOW + 200)).toHaveLength(5_000);
  expect((await workers.all(NOW + 400)).map(({ worker }) => worker)).toEqual([W1]);
  await workers.merge([event("worker-heartbeat", W2, 401, { active: 0 })], NOW + 401);
  expect((await workers.all(NOW + 800)).map(({ worker }) => worker)).toEqual([W1, W2]);
});

it("tells who is up: online, and heard within the timeout by the receiver's clock", async () => {
  // Its own clock is an hour behind.
  await workers.merge([event("worker-heartbeat", W1, -3_600, { active: 0 })], NOW);
  const [state] = await workers.all(NOW);
  if (state === undefined) throw new Error("no worker");
  expect([isUp(state, 300, NOW + 300), isUp(state, 300, NOW + 301), isUp({ ...state, isOnline: false }, 300, NOW)]).toEqual([
    true,
    false,
    false,
  ]);
});

it("were heard now at the latest, even if the receiver's clock is ahead", async () => {
  await workers.merge([event("worker-heartbeat", W1, 0, { active: 0 })], NOW + 86_400);
  const [state] = await workers.all();
  if (state === undefined) throw new Error("no worker");
  expect(isUp(state, 300, Date.now() / 1_000)).toBe(true);
  expect(isUp(state, 300, Date.now() / 1_000 + 301)).toBe(false);
});

it("are known again soon after their own clock was ahead", async () => {
  await workers.merge([event("worker-heartbeat", W1, 7_200, { active: 3 }), event("worker-offline", W1, 7_200)], NOW);
  expect(await workers.all(NOW)).toMatchObject([{ isOnline: false, active: 3 }]);
  await workers.merge([event("worker-online", W1, 100), event("worker-heartbeat", W1, 102, { active: 1 })], NOW + 102);
  expect(await workers.all(NOW)).toMatchObject([{ isOnline: true, active: 1 }]);
});
