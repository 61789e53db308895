/** The Store on a Redis Cluster: its shards are on all nodes, each node must know the scripts, and shards move. */
import { taskFailed, taskReceived, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { UnavailableError, mastersOf } from "@celery-metrics-exporter/runtime";
import { startRedisCluster, type RedisCluster } from "@celery-metrics-exporter/testkit";
import { Cluster, Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { SHARDS, StoreKeys } from "../../src/keys.ts";
import { summarise } from "../../src/completions/summarise.ts";
import { TaskStore } from "../../src/task-store.ts";
import { storeOptions } from "../store-harness.ts";

const IDS = Array.from({ length: 300 }, (_, index) => `task-${index}`);
let cluster: RedisCluster;
let redis: Cluster;
let store: TaskStore;

beforeAll(async () => {
  cluster = await startRedisCluster();
  redis = new Cluster(cluster.masters.map(({ port }) => ({ host: "127.0.0.1", port })));
  store = new TaskStore({ ...storeOptions, redis });
});
beforeEach(() => Promise.all(mastersOf(redis).map((master) => master.flushall())));
afterAll(async () => {
  redis.disconnect();
  await cluster.stop();
});

/** What is reported of every task. Marks it as reported. */
async function sendAll(jobId: string): Promise<number> {
  const claims = await store.claim(jobId, IDS);
  const summaries = [...claims].flatMap(([id, claim]) => (claim.outcome === "claimed" ? [[id, summarise(claim.entry)] as const] : []));
  await store.settle(jobId, new Map(summaries));
  return summaries.reduce((sum, [, { completions }]) => sum + completions.length, 0);
}

it("takes, claims, sends, counts and forgets tasks wherever they are", async () => {
  const began = IDS.flatMap((uuid) => [taskReceived({ uuid }), taskStarted({ uuid })]);
  expect(await store.apply(began)).toEqual([]);
  expect(await store.sweep()).toEqual({ expired: 0, open: IDS.length });
  expect(new Set(await store.apply(IDS.map((uuid) => taskSucceeded({ uuid }))))).toEqual(new Set(IDS));
  const claims = await store.claim("other", IDS.slice(0, 100));
  expect([...claims.values()].map(({ outcome }) => outcome)).toEqual(Array.from({ length: 100 }, () => "claimed"));
  await store.release("other", IDS.slice(0, 100));
  expect(await sendAll("job")).toBe(IDS.length);
  expect(await sendAll("again")).toBe(0);
  expect(await store.sweep()).toEqual({ expired: 0, open: 0 });
  const sizes = await Promise.all(mastersOf(redis).map((master) => master.dbsize()));
  expect(sizes.filter((size) => size > IDS.length / SHARDS)).toHaveLength(3);
  await store.forget(IDS);
  expect(await Promise.all(mastersOf(redis).map((master) => master.dbsize()))).toEqual([0, 0, 0]);
});

it("teaches its scripts to a node that has forgotten them", async () => {
  await store.apply(IDS.map((uuid) => taskStarted({ uuid })));
  await mastersOf(redis)[1]?.script("FLUSH");
  expect(await store.apply(IDS.map((uuid) => taskFailed({ uuid })))).toHaveLength(IDS.length);
  expect(await sendAll("job")).toBe(IDS.length);
});

it("finds every task while a shard moves to another node and afterwards", async () => {
  const [key = ""] = new StoreKeys("{cme}", "test").open;
  const slot = await redis.cluster("KEYSLOT", key);
  const owner = (await redis.cluster("SLOTS")).find(([from, to]) => from <= slot && slot <= to)?.[2]?.[1];
  const target = cluster.masters.find(({ port }) => port !== owner);
  await store.apply(IDS.map((uuid) => taskStarted({ uuid })));
  const done = new AbortController();
  const moved = target && cluster.moveSlot(slot, target).finally(() => done.abort());
  do {
    // A script call for tasks here and there is refused until all are there.
    await store.apply(IDS.map((uuid) => taskReceived({ uuid })));
  } while (!done.signal.aborted);
  await moved;
  expect(await store.apply(IDS.map((uuid) => taskSucceeded({ uuid })))).toHaveLength(IDS.length);
  expect(await store.sweep()).toEqual({ expired: 0, open: IDS.length });
  expect(await sendAll("job")).toBe(IDS.length);
});

it("does not blame the data when one node was configured as a single Redis", async () => {
  const single = new Redis(cluster.masters[0]?.url ?? "");
  const lost = new TaskStore({ ...storeOptions, redis: single });
  const error: unknown = await lost.apply(IDS.map((uuid) => taskStarted({ uuid }))).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(UnavailableError);
  expect(String(error)).toMatch(/(MOVED|CROSSSLOT).*redis\+cluster:\/\//);
  single.disconnect();
});
