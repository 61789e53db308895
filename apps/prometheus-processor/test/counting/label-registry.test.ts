/** However many values senders make up, there are never more series than allowed. */
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { LabelRegistry, labelSet } from "../../src/counting/label-registry.ts";

const KEYS = {
  values: "{cme}:prometheus:labels",
  used: "{cme}:prometheus:labels-used",
  created: "{cme}:prometheus:labels-created",
};
const MAX = 50;

let server: RedisServer;
let redis: Redis;
const connections: Redis[] = [];
beforeAll(async () => {
  server = await startRedis();
  redis = connect();
});
beforeEach(() => redis.flushall());
afterAll(async () => {
  for (const connection of connections) connection.disconnect();
  await server.stop();
});

function connect(): Redis {
  const connection = new Redis(server.url, { maxRetriesPerRequest: 1 });
  connection.on("error", () => {});
  connections.push(connection);
  return connection;
}

function registry(options: { readonly max?: number; readonly rememberedMs?: number; readonly redis?: Redis } = {}): LabelRegistry {
  return new LabelRegistry({ redis, keys: KEYS, max: MAX, other: ["other", "other", "generic"], ...options });
}

function sets(count: number, prefix = "task"): Set<string> {
  return new Set(Array.from({ length: count }, (_, index) => labelSet(`${prefix}-${index}`, "celery", "generic")));
}

it("gives each set an id that all processes agree on, also after Redis lost everything", async () => {
  const before = await registry().resolve(sets(10));
  expect(new Set(before.values()).size).toBe(10);
  await redis.flushall();
  expect(await registry().resolve(sets(10))).toEqual(before);
  const known = await registry().all();
  for (const [set, id] of before) expect(known.get(id)).toEqual(set.split("\0"));
});

it("knows when each set was registered first", async () => {
  const before = Math.floor(Date.now() / 1_000);
  const one = registry({ rememberedMs: 0 });
  const ids = await one.resolve(sets(3));
  const created = await one.created();
  expect([...created.keys()].toSorted()).toEqual([...ids.values(), one.otherId].toSorted());
  for (const at of created.values()) expect(at).toBeGreaterThanOrEqual(before);
  for (const at of created.values()) expect(at).toBeLessThanOrEqual(Date.now() / 1_000);
  await redis.hset(KEYS.created, [...ids.values()][0] ?? "", 5);
  await registry().resolve(sets(3));
  expect((await one.created()).get([...ids.values()][0] ?? "")).toBe(5);
});

it("forgets when sets were registered only if they are not known, and not kept", async () => {
  const one = registry({ rememberedMs: 0 });
  const [first = "", second = "", third = ""] = [...(await one.resolve(sets(3))).values()];
  await redis.hdel(KEYS.values, first, second);
  await one.forgetCreated((id) => id === second);
  expect([...(await one.created()).keys()].toSorted()).toEqual([second, third, one.otherId].toSorted());
  await one.forgetCreated(() => false);
  expect([...(await one.created()).keys()].toSorted()).toEqual([third, one.otherId].toSorted());
});

it("never registers more than the limit, with many processes at once", async () => {
  const processes = Array.from({ length: 8 }, () => registry({ redis: connect() }));
  const given = await Promise.all(
    processes.flatMap((each, index) => [each.resolve(sets(40, `own-${index}`)), each.resolve(sets(30, "shared"))]),
  );
  const known = await registry().all();
  const { otherId } = registry();
  expect(known.size).toBe(MAX + 1);
  expect(known.get(otherId)).toEqual(["other", "other", "generic"]);
  for (const ids of given) for (const id of ids.values()) expect(known.has(id)).toBe(true);
  // Those past the limit are the same for all.
  const [one, another] = await Promise.all([registry().resolve(sets(30, "shared")), processes[3]?.resolve(sets(30, "shared"))]);
  expect(one).toEqual(another);
});

it("counts `other` itself under its own id, within any limit", async () => {
  const full = registry({ max: 1 });
  const ids = await full.resolve(new Set([...sets(3), labelSet("other", "other", "generic")]));
  expect([...ids.values()].filter((id) => id === full.otherId)).toHaveLength(3);
  expect((await full.all()).size).toBe(2);
});

it("asks Redis only once for what it remembers", async () => {
  const one = registry();
  await one.resolve(sets(5));
  await redis.flushall();
  await one.resolve(sets(5));
  expect(await redis.exists(KEYS.values)).toBe(0);
});

it("asks again after a while, after it is told to forget, and after it saw that Redis has lost a set", async () => {
  const [brief, told, seeing] = [registry({ rememberedMs: 0 }), registry(), registry()];
  for (const each of [brief, told, seeing]) {
    await each.resolve(sets(5));
    await redis.flushall();
    if (each === told) each.forget();
    if (each === seeing) await each.all();
    await new Promise((resolve) => setTimeout(resolve, 2));
    await each.resolve(sets(5));
    expect((await registry().all()).size, String([brief, told, seeing].indexOf(each))).toBe(6);
    await redis.flushall();
  }
});

it("lets a set in once there is room", async () => {
  const one = registry({ max: 2, rememberedMs: 0 });
  await one.resolve(sets(2));
  const late = labelSet("late", "celery", "generic");
  expect((await one.resolve(new Set([late]))).get(late)).toBe(one.otherId);
  const [[first = ""] = []] = await one.resolve(sets(1)).then((ids) => [[...ids.values()]]);
  await redis.hdel(KEYS.values, first);
  expect((await one.resolve(new Set([late]))).get(late)).not.toBe(one.otherId);
});

it("stays bounded in a flood of 100,000 names", async () => {
  const one = registry();
  for (let batch = 0; batch < 200; batch += 1) await one.resolve(sets(500, `flood-${batch}`));
  expect(await redis.hlen(KEYS.values)).toBe(MAX + 1);
  expect(await redis.zcard(KEYS.used)).toBe(MAX + 1);
  expect(await redis.hlen(KEYS.created)).toBe(MAX + 1);
  expect(await redis.dbsize()).toBe(3);
});

it("throws UnavailableError without Redis", async () => {
  const away = new Redis({ port: 1, maxRetriesPerRequest: 0, lazyConnect: true, retryStrategy: () => null });
  away.on("error", () => {});
  await expect(registry({ redis: away }).resolve(sets(1))).rejects.toBeInstanceOf(UnavailableError);
  await expect(registry({ redis: away }).all()).rejects.toBeInstanceOf(UnavailableError);
  away.disconnect();
});
