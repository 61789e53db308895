/** The state of workers, in Redis, from events in any order. */
import type { WorkerEvent } from "@celery-metrics-exporter/celery";
import { startRedis, type RedisServer, scaled } from "@celery-metrics-exporter/testkit";
import * as fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
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

describe("a worker that is silent", () => {
  it.each([
    ["is up for a while, and then not known to be", [], [true, true, undefined]],
    ["is down once a receiver has listened for the timeout", [[-50, 301]], [false, false, false]],
    ["is not down before", [[-50, 300]], [true, true, undefined]],
    ["is not known while the receiver has been down", [[-50, 20]], [true, true, undefined]],
    [
      "is not down until it has listened for long enough again",
      [
        [-50, 20],
        [400, 700],
      ],
      [true, true, undefined],
    ],
    [
      "is down once it has listened for long enough again",
      [
        [-50, 20],
        [400, 701],
      ],
      [false, false, false],
    ],
    [
      "is down if two receivers have listened in turn, in whatever order that is reported",
      [
        [150, 301],
        [-50, 150],
      ],
      [false, false, false],
    ],
    [
      "is not down if no time was long enough since it was heard",
      [
        [400, 500],
        [-50, 290],
      ],
      [true, true, undefined],
    ],
    [
      "stays down after a short interruption",
      [
        [-50, 301],
        [303, 305],
        [306, 310],
      ],
      [false, false, false],
    ],
    [
      "is down if an earlier time that was long enough comes late",
      [
        [303, 305],
        [-50, 301],
        [-400, -80],
      ],
      [false, false, false],
    ],
    [
      "is down if those of both brokers listened for long enough",
      [
        [-50, 301],
        [0, 310, "another"],
      ],
      [false, false, false],
    ],
    [
      "is not down while the receiver of another broker is",
      [
        [-50, 400],
        [-50, 290, "another"],
      ],
      [true, true, undefined],
    ],
    [
      "is down once that has been down for ten minutes",
      [
        [-50, 901],
        [-50, 290, "another"],
      ],
      [false, false, false],
    ],
  ] as readonly [string, readonly (readonly [number, number, string?])[], readonly (boolean | undefined)[]][])(
    "%s",
    async (_, times, expected) => {
      // Its own clock is an hour behind.
      await workers.merge([event("worker-heartbeat", W1, -3_600, { active: 0 })], NOW);
      for (const time of times) await listened(...time);
      const known = await workers.all(NOW);
      const [state] = known.states;
      if (state === undefined) throw new Error("no worker");
      expect([300, 315, 316].map((second) => isUp(state, 300, NOW + second))).toEqual(expected);
      expect(isUp({ ...state, isOnline: false }, 300, NOW)).toBe(false);
    },
  );

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

it("were heard now at the latest, even if the receiver's clock is ahead", async () => {
  await workers.merge([event("worker-heartbeat", W1, 0, { active: 0 })], NOW + 86_400);
  await listened(-50, 86_400);
  const { states, listenedUntil = 0 } = await workers.all();
  expect(states[0]?.heardAt).toBeLessThanOrEqual(Date.now() / 1_000);
  expect(listenedUntil).toBeLessThanOrEqual(Date.now() / 1_000);
});

it("are judged by receivers whose clock is not ahead", async () => {
  const now = Date.now() / 1_000;
  await workers.merge([event("worker-heartbeat", W1, 0, { active: 0 })], now - 400);
  const report = (since: number, timestamp: number) => workers.listened([{ type: "listened", source: "broker", since, timestamp }], now);
  await report(now - 1_000, now - 10);
  await report(now + 5, now + 60);
  expect(await workers.all(now)).toMatchObject({
    states: [{ silentSeconds: expect.closeTo(390, 1) as number }],
    listenedUntil: expect.closeTo(now - 10, 1) as number,
  });
});

it("are known again soon after their own clock was ahead", async () => {
  await workers.merge([event("worker-heartbeat", W1, 7_200, { active: 3 }), event("worker-offline", W1, 7_200)], NOW);
  expect(await all(NOW)).toMatchObject([{ isOnline: false, active: 3 }]);
  await workers.merge([event("worker-online", W1, 100), event("worker-heartbeat", W1, 102, { active: 1 })], NOW + 102);
  expect(await all(NOW)).toMatchObject([{ isOnline: true, active: 1 }]);
});
