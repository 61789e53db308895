/** The newest observations, in Redis, of monitors whose clocks differ. */
import type { QueuesObserved } from "@celery-metrics-exporter/celery";
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { Observations } from "../../src/watching/observations.ts";

const NOW = 1_795_328_900;

let server: RedisServer;
let redis: Redis;
let observations: Observations;
beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  observations = new Observations({ redis, key: "observations", maxAgeSeconds: 300 });
});
beforeEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

function queues(timestamp: number, messages: number): QueuesObserved {
  return { type: "queues-observed", timestamp, broker: "redis", queues: [{ name: "celery", messages }] };
}

async function shown(now: number): Promise<number | undefined> {
  return (await observations.newest(now)).queues?.queues[0]?.messages;
}

it("keeps the newest one, whatever the order in which they come, until it is too old", async () => {
  await observations.store([queues(NOW, 1)], NOW);
  await observations.store([queues(NOW - 15, 2)], NOW);
  expect(await shown(NOW + 300)).toBe(1);
  expect(await shown(NOW + 301)).toBeUndefined();
});

it("is not held up by a monitor whose clock was ahead", async () => {
  await observations.store([queues(NOW + 3_600, 1)], NOW);
  expect(await shown(NOW)).toBe(1);
  await observations.store([queues(NOW + 15, 2)], NOW + 16);
  expect(await shown(NOW + 16)).toBe(2);
  expect(await shown(NOW + 400)).toBeUndefined();
});
