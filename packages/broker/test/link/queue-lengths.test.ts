/** The lengths of queues that real Celery clients filled, on both brokers. */
import {
  countingNeedsRight,
  createVhost,
  sendPrioritized,
  startCeleryWorker,
  startRedis,
  startSentinel,
  TcpProxy,
  type CeleryWorker,
  type RedisServer,
  type TestVhost,
} from "@celery-metrics-exporter/testkit";
import { connect, type ChannelModel } from "amqplib";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { BrokerLink } from "../../src/link/broker-link.ts";
import { queueLengths, type QueueLengths } from "../../src/link/queue-lengths.ts";
import type { RedisQueueOptions } from "../../src/redis/queues.ts";
import { parseBrokerUrl } from "../../src/url/broker-url.ts";
import { testContext, type TestContext } from "../test-context.ts";

const DEFAULTS: RedisQueueOptions = {
  keyPrefix: "",
  prioritySteps: [0, 3, 6, 9],
  prioritySeparator: "\u0006\u0016",
  unackedKey: "unacked",
  unackedIndexKey: "unacked_index",
};
const ALL_PRIORITIES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

const releases: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

async function openLink(url: string, context: TestContext = testContext()): Promise<BrokerLink> {
  const parsed = parseBrokerUrl(url);
  if (!parsed.ok) throw new Error(parsed.problem);
  const link = new BrokerLink(parsed.url, { ...context, use: "test", component: "broker" });
  await link.start();
  releases.push(() => link.stop());
  return link;
}

async function count(url: string, names: readonly string[], redis: Partial<RedisQueueOptions> = {}): Promise<QueueLengths> {
  return queueLengths((await openLink(url)).connection, names, { redis: { ...DEFAULTS, ...redis } });
}

describe("on Redis", () => {
  let server: RedisServer;
  let redis: Redis;

  beforeAll(async () => {
    server = await startRedis();
    redis = new Redis(server.url);
  });
  afterAll(async () => {
    redis.disconnect();
    await server.stop();
  });
  afterEach(() => redis.flushall());

  it("counts all priorities of Celery's messages, by step", async () => {
    await sendPrioritized(server.url, "mail", ALL_PRIORITIES);
    const { queues, refused } = await count(server.url, ["mail", "missing"]);
    expect(queues).toEqual([
      { name: "mail", messages: 10, byPriority: { 0: 3, 3: 3, 6: 3, 9: 1 } },
      { name: "missing", messages: 0 },
    ]);
    expect(refused).toEqual([]);
  });

  it("counts a queue without priorities as one number", async () => {
    await sendPrioritized(server.url, "mail", [0, 0]);
    expect((await count(server.url, ["mail"])).queues).toEqual([{ name: "mail", messages: 2 }]);
  });

  it("counts below a key prefix, and in the database of the URL", async () => {
    await sendPrioritized(`${server.url}/3`, "mail", [0, 9], { KEY_PREFIX: "shop:" });
    expect((await count(`${server.url}/3`, ["mail"], { keyPrefix: "shop:" })).queues).toMatchObject([{ messages: 2 }]);
    expect((await count(`${server.url}/3`, ["mail"])).queues).toMatchObject([{ messages: 0 }]);
    expect((await count(`${server.url}/0`, ["mail"], { keyPrefix: "shop:" })).queues).toMatchObject([{ messages: 0 }]);
  });

  it("counts other steps and another separator", async () => {
    await redis.lpush("mail", "a");
    await redis.lpush("mail:5", "b", "c");
    const { queues } = await count(server.url, ["mail"], { prioritySteps: [0, 5], prioritySeparator: ":" });
    expect(queues).toEqual([{ name: "mail", messages: 3, byPriority: { 0: 1, 5: 2 } }]);
  });

  it("counts what a worker has taken and not acknowledged, and since when", async () => {
    expect((await count(server.url, [])).unacked).toEqual({ messages: 0 });
    await redis.hset("unacked", "tag-1", "[]", "tag-2", "[]");
    await redis.zadd("unacked_index", "1796000000.25", "tag-1", "1796000010.5", "tag-2");
    expect((await count(server.url, [])).unacked).toEqual({ messages: 2, oldestAt: 1_796_000_000.25 });
    const names = { unackedKey: "shop-unacked", unackedIndexKey: "shop-unacked-index" };
    expect((await count(server.url, [], names)).unacked).toEqual({ messages: 0 });
  });

  it("sees the unacknowledged message of a real worker", async () => {
    const since = Date.now() / 1_000;
    const env = { REST_SECONDS: "60" };
    const worker = await startCeleryWorker({ brokerUrl: server.url, app: "inspected", queues: ["mail"], pool: "threads", env });
    releases.push(() => worker.kill());
    await sendPrioritized(server.url, "mail", [0], env);
    await expect.poll(async () => (await count(server.url, [])).unacked?.messages).toBe(1);
    expect((await count(server.url, [])).unacked?.oldestAt).toBeGreaterThanOrEqual(since);
  });

  it("reports queues that it may not count, and counts the others", async () => {
    await redis.lpush("mail", "a");
    await redis.set("no-list", "a");
    await redis.call("ACL", "SETUSER", "counter", "reset", "on", ">secret", "~mail*", "~no-list*", "+llen", "+hlen", "+zrange");
    const { queues, unacked, refused } = await count(server.url.replace("://", "://counter:secret@"), ["mail", "secret", "no-list"]);
    expect(queues).toEqual([{ name: "mail", messages: 1 }]);
    expect(unacked).toBeUndefined();
    expect(refused).toEqual([
      { name: "secret", reason: expect.stringContaining("NOPERM") as string },
      { name: "no-list", reason: expect.stringContaining("WRONGTYPE") as string },
      { name: "unacked", reason: expect.stringContaining("NOPERM") as string },
    ]);
  });

  it("counts on the master that sentinels name", async () => {
    await redis.lpush("mail", "a");
    const sentinel = await startSentinel({ masterPort: server.port });
    releases.push(() => sentinel.stop());
    expect((await count(`sentinel://127.0.0.1:${sentinel.port}/0`, ["mail"])).queues).toMatchObject([{ messages: 1 }]);
  });

  it("refuses to count in another database than that of the URL", async () => {
    await expect(openLink(`${server.url}/99`)).rejects.toThrow(/no database 99/);
    await redis.call("ACL", "SETUSER", "without-select", "reset", "on", ">secret", "+llen");
    await expect(openLink(`${server.url.replace("://", "://without-select:secret@")}/1`)).rejects.toThrow(/database 1 .*NOPERM/);
  });

  it("reconnects, and says that the broker is away until then", async () => {
    const proxy = await TcpProxy.start(server.port);
    releases.push(() => proxy.stop());
    const context = testContext();
    const link = await openLink(`redis://127.0.0.1:${proxy.port}`, context);
    const { connection } = link;
    proxy.cut();
    await expect.poll(() => context.health.report().ready).toBe(false);
    expect(() => link.connection).toThrow("the broker is unavailable");
    await expect.poll(() => context.health.report().ready).toBe(true);
    expect(link.connection).not.toBe(connection);
    expect((await queueLengths(link.connection, ["mail"], { redis: DEFAULTS })).queues).toHaveLength(1);
  });
});

describe("on RabbitMQ", () => {
  let vhost: TestVhost;
  let admin: ChannelModel;
  let worker: CeleryWorker | undefined;

  beforeAll(async () => {
    vhost = await createVhost();
    admin = await connect(vhost.url);
  });
  afterAll(async () => {
    await worker?.kill();
    await admin.close();
    await vhost.drop();
  });

  it("counts ready messages and consumers, and leaves out queues that do not exist", async () => {
    await sendPrioritized(vhost.url, "mail", [0, 0, 0]);
    worker = await startCeleryWorker({ brokerUrl: vhost.url, app: "inspected", queues: ["idle"] });
    const { queues, unacked, refused } = await count(vhost.url, ["mail", "missing", "idle", "missing too"]);
    expect(queues).toEqual([
      { name: "mail", messages: 3, consumers: 0 },
      { name: "idle", messages: 0, consumers: 1 },
    ]);
    expect(unacked).toBeUndefined();
    expect(refused).toEqual([]);
  });

  it("counts quorum queues, and more queues than channels", async () => {
    const channel = await admin.createChannel();
    const names = Array.from({ length: 30 }, (_, index) => `many-${index}`);
    for (const name of names) await channel.assertQueue(name, { arguments: { "x-queue-type": name === "many-7" ? "quorum" : "classic" } });
    channel.sendToQueue("many-7", Buffer.from("x"));
    const found = async (): Promise<(readonly [string, number])[]> =>
      (await count(vhost.url, [...names, "none"])).queues.map(({ name, messages }) => [name, messages]);
    await expect.poll(found).toEqual(names.map((name) => [name, name === "many-7" ? 1 : 0]));
    await channel.close();
  });

  it("counts the messages of all priorities of a queue that has them", async () => {
    const channel = await admin.createConfirmChannel();
    await channel.assertQueue("urgent", { maxPriority: 9 });
    for (const priority of ALL_PRIORITIES) channel.sendToQueue("urgent", Buffer.from("x"), { priority });
    await channel.waitForConfirms();
    await channel.close();
    expect((await count(vhost.url, ["urgent"])).queues).toEqual([{ name: "urgent", messages: 10, consumers: 0 }]);
  });

  it("reports a queue that is exclusive to another connection, and counts the others", async () => {
    const channel = await admin.createChannel();
    await channel.assertQueue("private", { exclusive: true });
    await channel.assertQueue("public", { autoDelete: true });
    const { queues, refused } = await count(vhost.url, ["private", "public"]);
    expect(queues.map(({ name }) => name)).toEqual(["public"]);
    expect(refused).toEqual([{ name: "private", reason: expect.stringContaining("RESOURCE_LOCKED") as string }]);
    await channel.close();
  });

  it("needs no permission, or since RabbitMQ 4.3.1 to read", async () => {
    const none = { configure: "^$", write: "^$", read: "^$" };
    const [url = "", readingUrl = ""] = await vhost.createUsers([none, { ...none, read: "^(mail|missing)$" }]);
    const counted = [{ name: "mail", messages: 3, consumers: 0 }];
    expect(await count(readingUrl, ["mail", "missing"])).toMatchObject({ queues: counted, refused: [] });
    const refusal = { name: "mail", reason: expect.stringMatching(/ACCESS_REFUSED.*read/) as string };
    const isRefused = await countingNeedsRight(vhost.url);
    expect(await count(url, ["mail"])).toMatchObject(isRefused ? { queues: [], refused: [refusal] } : { queues: counted, refused: [] });
  });
});
