/** Our own Redis commands (not BullMQ's) on a cluster. */
import { taskSent, taskStarted } from "@celery-metrics-exporter/celery/testing";
import { Health, Lifecycle, Metrics, connectRedis, createLogger, mastersOf, type RedisConnection } from "@celery-metrics-exporter/runtime";
import { startRedisCluster, type RedisCluster } from "@celery-metrics-exporter/testkit";
import type { Cluster } from "ioredis";
import { afterAll, beforeAll, expect, it } from "vitest";
import { BegunBatches } from "../../src/queue/scheduled-ids.ts";
import { DeadLetterReplay } from "../../src/dead-letter/replay.ts";
import { BatchFilter } from "../../src/filter/batch-filter.ts";
import { DeadLetters, EventFilter, AttemptMemory, FilterConfig, KnownQueues, Leader, Leadership } from "../../src/index.ts";
import { openQueue } from "../../src/queue/bullmq.ts";
import { QueueGauges } from "../../src/host/queue-gauges.ts";
import { RedisMemory } from "../../src/queue/redis-memory.ts";

const prefix = "{cme}";
const logger = createLogger("test", "silent");
const lifecycle = new Lifecycle(logger);
let cluster: RedisCluster;
let redis: RedisConnection;

beforeAll(async () => {
  // No node fails here, and on a busy machine none is to look dead.
  cluster = await startRedisCluster({ nodeTimeoutMs: 15_000 });
  const options = { use: "producer", name: "Redis", startupTimeoutMs: 15_000, logger, lifecycle, health: new Health() } as const;
  redis = await connectRedis({ url: cluster.url, ...options });
});
afterAll(async () => {
  await lifecycle.close();
  await cluster.stop();
});

it("counts as full when one of the nodes is", async () => {
  const memory = new RedisMemory(redis);
  const setLimit = (bytes: number) => mastersOf(redis)[2]?.config("SET", "maxmemory", bytes);
  await memory.refresh();
  expect(memory.problem).toBeUndefined();
  await setLimit(1_000_000);
  await memory.refresh();
  expect(memory.problem).toBeDefined();
  await setLimit(0);
  await memory.refresh();
  expect(memory.problem).toBeUndefined();
});

it("remembers attempts", async () => {
  const memory = new AttemptMemory({ redis, prefix, owner: "receiver" });
  const unwanted = { marks: ["-s0"], describedAt: 1_000 };
  await memory.note(new Map(Object.entries({ a: unwanted, b: { ...unwanted, finishedAt: 2_000 } })));
  const known = await memory.note(new Map(["a", "b", "c"].map((id) => [id, undefined])));
  expect([...known].map(([id, { marks }]) => [id, marks])).toEqual([
    ["a", ["-s0"]],
    ["b", ["-s0"]],
    ["c", []],
  ]);
  expect(await redis.ttl(`${prefix}:excluded:receiver:b`)).toBeLessThan(await redis.ttl(`${prefix}:excluded:receiver:a`));
});

it("gives the receivers' leadership to one of them", async () => {
  const [one, other] = [0, 1].map(() => new Leadership({ redis, prefix, stream: "amqp" }));
  const [long, longer] = [{ completeSince: performance.now() - 60_000 }, { completeSince: performance.now() - 120_000 }];
  expect(await one?.claim(long)).toMatchObject({ held: true });
  expect(await other?.claim(longer)).toMatchObject({ held: false });
  await one?.release();
  expect(await other?.claim(longer)).toMatchObject({ held: true });
});

it("has one leader, which gives way to the next, also when the key's node is full or moves", async () => {
  const ttlMs = 6_000;
  const start = async (): Promise<Leader> => {
    const leadership = new Leadership({ redis, prefix, stream: "metrics", role: "monitor", ttlMs });
    const leader = new Leader({ leadership, role: "monitor", health: new Health().component("monitor"), logger, everyMs: 50 });
    lifecycle.defer("leader", () => leader.stop());
    await leader.start();
    return leader;
  };
  const [one, other] = [await start(), await start()];
  const active = () => [one.isActive, other.isActive];
  expect(active()).toEqual([true, false]);
  const limit = (bytes: number) => Promise.all(mastersOf(redis).map((master) => master.config("SET", "maxmemory", bytes)));
  await limit(1);
  try {
    await one.stop();
    // Sooner than the other would take over from a leader that died.
    await expect.poll(active, { timeout: ttlMs - 2_000, interval: 20 }).toEqual([false, true]);
  } finally {
    await limit(0);
  }
  const slot = await (redis as Cluster).cluster("KEYSLOT", prefix);
  const [, target] = cluster.masters;
  if (target !== undefined) await cluster.moveSlot(slot, target);
  await new Promise((resolve) => setTimeout(resolve, ttlMs + 200));
  expect(active()).toEqual([false, true]);
});

it("remembers the names of Celery's queues", async () => {
  const known = new KnownQueues({ redis, prefix });
  await known.remember(["mail", "images"]);
  await known.notice([taskSent({ queue: "reports" }), taskStarted()]);
  expect(await new KnownQueues({ redis, prefix }).names()).toEqual(["images", "mail", "reports"]);
  expect(await redis.ttl(`${prefix}:monitor:queues`)).toBeGreaterThan(0);
});

it("lists the jobs of a queue, and those that are not done", async () => {
  const queue = openQueue("sink", { redis, prefix, logger });
  lifecycle.defer("queue", () => queue.close());
  const jobs = await queue.addBulk([1, 2, 3].map(() => ({ name: "batch", data: {} })));
  const metrics = new Metrics();
  const gauges = new QueueGauges({ queues: [queue], redis, metrics, logger });
  await gauges.start();
  gauges.close();
  expect(await metrics.registry.metrics()).toMatch(/queue_jobs\{queue="sink",state="wait"\} 3/);
  const begun = new BegunBatches(redis, queue);
  const ids = jobs.map(({ id }) => String(id));
  expect(await begun.areUnfinished(ids)).toBe(true);
  for (const job of jobs) await job.remove();
  expect(await begun.areUnfinished(ids)).toBe(false);
  expect(await begun.ids()).toEqual([]);
});

it("keeps dead letters and replays them", async () => {
  const common = { redis, prefix, logger };
  const deadLetters = new DeadLetters({ ...common, metrics: new Metrics(), source: undefined });
  await deadLetters.start();
  await deadLetters.add([{ source: "postgres", reason: "refused", detail: "", event: taskStarted({ uuid: "t" }) }]);
  const filter = new BatchFilter(new EventFilter(FilterConfig.parse({})), new AttemptMemory({ redis, prefix, owner: "receiver" }));
  const replay = new DeadLetterReplay({
    ...common,
    exporters: ["datadog", "postgres"],
    filter,
    fanout: { enqueue: async () => {} },
    deadLetters,
  });
  for (const opened of [deadLetters, replay]) lifecycle.defer("queues", () => opened.close());
  const replayed: unknown[] = [];
  for await (const letters of replay.run({})) replayed.push(...letters);
  expect(replayed).toEqual([{ source: "postgres", reason: "refused", outcome: "replayed" }]);
  expect(await redis.llen(`${prefix}:dead-letter:wait`)).toBe(0);
  expect(await redis.llen(`${prefix}:postgres:wait`)).toBe(1);
});
