/** The queues on a Redis with TLS, behind Sentinel, and on a cluster. Every connection must work, including BullMQ's own. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { taskStarted } from "@celery-metrics-exporter/celery/testing";
import { Health, Lifecycle, Metrics, connectRedis, createLogger, type RedisTarget } from "@celery-metrics-exporter/runtime";
import { certificate, startRedis, startRedisCluster, startSentinel, TcpProxy, type RedisServer } from "@celery-metrics-exporter/testkit";
import { Cluster, Redis } from "ioredis";
import { afterEach, describe, expect, it, vi } from "vitest";
import { Fanout } from "../../src/index.ts";
import { exporterOf, startHost, type RunningHost } from "../support/host.ts";

const logger = createLogger("receiver", "silent");
const CLIENT = `ssl_certfile=${certificate("client")}&ssl_keyfile=${certificate("client-key")}`;
const TLS = `ssl_ca_certs=${certificate("ca")}&${CLIENT}`;

const releases: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).toReversed()) await release();
});

async function redisServer(options: Parameters<typeof startRedis>[0] = {}): Promise<RedisServer> {
  const server = await startRedis(options);
  releases.push(() => server.stop());
  return server;
}

/** A fan-out like the receiver's, and a processor that remembers what it exported. */
async function startFlow(target: RedisTarget, env: Readonly<Record<string, string>> = {}) {
  const lifecycle = new Lifecycle(logger);
  releases.push(() => lifecycle.close());
  const health = new Health();
  const connecting = connectRedis({ ...target, use: "producer", name: "redis", startupTimeoutMs: 20_000, logger, lifecycle, health });
  const fanout = new Fanout({
    redis: await connecting,
    prefix: "{cme}",
    exporters: [{ name: "sink", healthPort: 0, takes: ["task-started"] }],
    whenFull: "hold",
    highWaterEvents: 2_000_000,
    logger,
    metrics: new Metrics(),
  });
  lifecycle.defer("fanout", () => fanout.close());
  await fanout.start();
  const exported = new Set<string>();
  const definition = exporterOf("sink", () => ({
    export: async (events) => {
      for (const event of events) if ("uuid" in event && event.uuid !== undefined) exported.add(event.uuid);
    },
  }));
  const host: RunningHost = await startHost(definition, { REDIS_URL: target.url, ...env });
  releases.push(() => host.stop());
  /** Retries until the batch is stored, like the receiver. */
  const send = async (uuid: string): Promise<void> => {
    const events: CeleryEvent[] = [taskStarted({ uuid })];
    await vi.waitUntil(
      () =>
        fanout.enqueue({ broker: "redis", events }).then(
          () => true,
          () => false,
        ),
      { timeout: 25_000, interval: 50 },
    );
  };
  return { exported, send, host, health };
}

describe("the queues over TLS", () => {
  it("work on every connection, with our own certificate", async () => {
    const server = await redisServer({ tls: true, args: ["--requirepass", "secret"] });
    const { exported, send, host } = await startFlow({ url: `rediss://:secret@localhost:${server.tlsPort}/2?${TLS}` });
    await send("one");
    await expect.poll(() => [...exported], { timeout: 20_000 }).toEqual(["one"]);
    expect(host.health.report().ready).toBe(true);
    const admin = new Redis(server.url, { password: "secret" });
    releases.push(() => admin.quit());
    const clients = (await admin.client("LIST")) as string;
    // The test's own connection has no name. BullMQ's, on which it waits for jobs, is a duplicate of another.
    const ours = clients.split("\n").filter((line) => / name=\S/.test(line));
    expect(ours).toHaveLength(4);
    for (const client of ours) expect(client).toMatch(new RegExp(` laddr=127\\.0\\.0\\.1:${server.tlsPort} .* db=2 `));
  });
});

describe("the queues behind Sentinel", () => {
  it("go on at the new master after the old one is killed", async () => {
    const master = await redisServer();
    const replica = await redisServer({ args: ["--replicaof", `127.0.0.1 ${master.port}`] });
    const sentinel = await startSentinel({ masterPort: master.port, password: "hunter2" });
    releases.push(() => sentinel.stop());
    const watcher = new Redis(sentinel.port, { password: "hunter2" });
    releases.push(async () => watcher.disconnect());
    await expect.poll(() => watcher.call("sentinel", "replicas", "mymaster"), { timeout: 25_000 }).toHaveLength(1);
    const url = `sentinel://127.0.0.1:1;sentinel://127.0.0.1:${sentinel.port}/1`;
    const target = { url, sentinel: { password: "hunter2" } };
    const { exported, send, host, health } = await startFlow(target, { REDIS_SENTINEL_PASSWORD: "hunter2" });
    await send("before");
    await expect.poll(() => [...exported], { timeout: 20_000 }).toEqual(["before"]);

    await master.kill();
    await send("after");
    await expect.poll(() => exported.has("after"), { timeout: 25_000 }).toBe(true);
    await expect.poll(() => health.report().ready && host.health.report().ready, { timeout: 25_000 }).toBe(true);
    const promoted = new Redis(replica.url);
    releases.push(() => promoted.quit());
    expect(await promoted.role()).toEqual(expect.arrayContaining(["master"]));
  });

  it("go on when the master they are connected to has become a replica", async () => {
    const master = await redisServer();
    const replica = await redisServer({ args: ["--replicaof", `127.0.0.1 ${master.port}`] });
    const { exported, send } = await startFlow({ url: master.url });
    await send("before");
    await expect.poll(() => exported.has("before"), { timeout: 20_000 }).toBe(true);

    const admin = new Redis(master.url);
    releases.push(() => admin.quit());
    const connections = async (): Promise<number> => Number(/total_connections_received:(\d+)/.exec(await admin.info("stats"))?.[1]);
    const before = await connections();
    // Unlike Sentinel, this does not disconnect clients: writes are answered with READONLY.
    await admin.replicaof("127.0.0.1", replica.port);
    const sending = send("after");
    await expect.poll(connections, { timeout: 20_000 }).toBeGreaterThan(before + 1);
    await admin.replicaof("NO", "ONE");
    await sending;
    await expect.poll(() => exported.has("after"), { timeout: 25_000 }).toBe(true);
  });
});

describe("the queues in a database of their own", () => {
  it("use no other when a failover leads to a server that lacks it, and go on when they have it back", async () => {
    const home = await redisServer();
    const other = await redisServer({ args: ["--databases", "1"] });
    const proxy = await TcpProxy.start(home.port);
    releases.push(() => proxy.stop());
    const { exported, send, host, health } = await startFlow({ url: proxy.inFrontOf(`${home.url}/5`) });
    await send("before");
    await expect.poll(() => exported.has("before"), { timeout: 20_000 }).toBe(true);

    proxy.redirect(other.port);
    const sending = send("during");
    for (const { report } of [health, host.health].map((each) => ({ report: () => JSON.stringify(each.report()) }))) {
      await expect.poll(report, { timeout: 20_000 }).toMatch(/DB index is out of range/);
    }
    // Long enough for every connection to try again, BullMQ's own too.
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect(health.report().ready || host.health.report().ready).toBe(false);
    const admin = new Redis(other.url);
    releases.push(() => admin.quit());
    expect(await admin.dbsize()).toBe(0);

    proxy.redirect(home.port);
    await sending;
    await expect.poll(() => exported.has("during"), { timeout: 25_000 }).toBe(true);
    await expect.poll(() => health.report().ready && host.health.report().ready, { timeout: 25_000 }).toBe(true);
    expect(await admin.dbsize()).toBe(0);
  });
});

describe("the queues on a cluster", () => {
  it("go on after every node was away, though BullMQ had given up its connection", async () => {
    const connect = vi.spyOn(Cluster.prototype, "connect");
    releases.push(async () => connect.mockRestore());
    const cluster = await startRedisCluster();
    releases.push(() => cluster.stop());
    const { exported, send, host, health } = await startFlow({ url: cluster.url });
    await send("before");
    await expect.poll(() => exported.has("before"), { timeout: 20_000 }).toBe(true);

    await Promise.all(cluster.masters.map((node) => node.kill()));
    const clients = connect.mock.contexts as Cluster[];
    await expect.poll(() => clients.filter((client) => client.nodes().length > 0), { timeout: 20_000 }).toEqual([]);
    expect(health.report().ready || host.health.report().ready).toBe(false);
    // BullMQ's command at the end of a queue. It is the one after which BullMQ gives up if it gets no answer.
    for (const client of new Set(clients)) client.bzpopmin("{cme}:sink:marker", 1).catch(() => {});
    await expect.poll(() => clients.some(({ status }) => status === "end"), { timeout: 20_000 }).toBe(true);
    await Promise.all(cluster.masters.map((node) => node.start()));
    await send("after");
    await expect.poll(() => exported.has("after"), { timeout: 25_000 }).toBe(true);
    await expect.poll(() => health.report().ready && host.health.report().ready, { timeout: 25_000 }).toBe(true);
  });
});
