/** The newest observations, in Redis. */
import { queuesObserved, workersObserved } from "@celery-metrics-exporter/celery/testing";
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { Observations } from "../../src/watching/observations.ts";

const MAX_AGE_SECONDS = 300;
const NOW = Math.floor(Date.now() / 1_000);

let server: RedisServer;
let redis: Redis;
let observations: Observations;
beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  observations = new Observations({ redis, key: "observations", maxAgeSeconds: MAX_AGE_SECONDS });
});
beforeEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

it("are the newest of each type, in whatever order they come, and end when they are old", async () => {
  const [queues, workers] = [queuesObserved({ timestamp: NOW }), workersObserved({ timestamp: NOW - 60 })];
  await observations.store([queues, queuesObserved({ timestamp: NOW - 15 })]);
  await observations.store([workers, queuesObserved({ timestamp: NOW - 30 })]);
  expect(await observations.newest(NOW)).toEqual({ queues, workers });
  expect(await observations.newest(NOW + MAX_AGE_SECONDS)).toEqual({ queues, workers: undefined });
  expect(await observations.newest(NOW + MAX_AGE_SECONDS + 1)).toEqual({ queues: undefined, workers: undefined });
});

it("are not those of a clock that was ahead, once it is right", async () => {
  await observations.store([queuesObserved({ timestamp: NOW + 86_400 })]);
  const queues = queuesObserved({ timestamp: NOW });
  await observations.store([queues]);
  expect(await observations.newest(NOW)).toEqual({ queues, workers: undefined });
});
