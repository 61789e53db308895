/** Connections to a Redis Cluster: they reach every node and report the nodes they cannot reach. */
import { certificate, startRedis, startRedisCluster, type RedisCluster, type RedisServer } from "@celery-metrics-exporter/testkit";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import {
  Health,
  Lifecycle,
  connectRedis,
  createLogger,
  mastersOf,
  sendTogether,
  warnIfNotDurable,
  type RedisTarget,
  type RedisUse,
} from "../../src/index.ts";

const logger = createLogger("test", "silent");
const WAIT = { timeout: 20_000, interval: 50 };
/** Keys on each of the three nodes. */
const KEYS = ["{a}", "{b}", "{c}"];
/** All connections to a cluster. Closed after the cluster, so that none of them is in a TLS handshake. */
let lifecycle: Lifecycle;

function connect(target: string | RedisTarget, use: RedisUse = "producer", startupTimeoutMs = 15_000) {
  const health = new Health();
  const options = { use, name: "Redis", startupTimeoutMs, logger, lifecycle, health };
  const connecting = connectRedis({ ...(typeof target === "string" ? { url: target } : target), ...options });
  return { health, connecting };
}

/** The message of a startup failure, which must come at once and without the password. */
async function refusal(target: string | RedisTarget, startupTimeoutMs = 60_000): Promise<string> {
  const error: unknown = await connect(target, "producer", startupTimeoutMs).connecting.catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "ERR_UNAVAILABLE" });
  expect(String(error)).not.toContain("hunter2");
  return String(error);
}

describe("connectRedis on a cluster", () => {
  let cluster: RedisCluster;
  let single: RedisServer;

  beforeAll(async () => {
    lifecycle = new Lifecycle(logger);
    [cluster, single] = await Promise.all([startRedisCluster({ password: "hunter2" }), startRedis()]);
  });
  afterAll(async () => {
    await Promise.all([cluster.stop(), single.stop()]);
    await lifecycle.close();
  });

  it.each(["producer", "worker", "viewer"] as const)("is connected to every node when it resolves, as a %s", async (use) => {
    const { health, connecting } = connect(`redis+cluster://:hunter2@127.0.0.1:${cluster.masters[2]?.port}`, use);
    const redis = await connecting;
    expect(health.report().ready).toBe(true);
    // Without a queue for commands that wait for a connection, every node must be connected.
    expect(await sendTogether(redis, [...KEYS.map((key) => ["set", key, key]), ...KEYS.map((key) => ["get", key])])).toEqual([
      ...KEYS.map(() => "OK"),
      ...KEYS,
    ]);
    const sizes = await Promise.all(mastersOf(redis).map((master) => master.dbsize()));
    expect(sizes).toEqual([1, 1, 1]);
    expect(await redis.client("GETNAME")).toBe("celery-metrics-exporter:Redis");
  });

  it("reports an unavailable node, fails at once only for its keys, and recovers", async () => {
    const { health, connecting } = connect(cluster.url);
    const redis = await connecting;
    const [victim] = cluster.masters;
    const others = cluster.masters.slice(1).map(({ port }) => port);
    await victim?.kill();
    await expect.poll(() => JSON.stringify(health.report()), WAIT).toMatch(new RegExp(`no connection to 127.0.0.1:${victim?.port}`));
    const began = performance.now();
    const replies = await sendTogether(
      redis,
      KEYS.map((key) => ["get", key]),
    );
    expect(performance.now() - began).toBeLessThan(1_000);
    expect(replies.filter((reply) => reply instanceof Error)).toHaveLength(1);
    expect(mastersOf(redis).map(({ options }) => options.port)).toEqual(expect.arrayContaining(others));
    await victim?.restart();
    await expect.poll(() => health.report().ready, WAIT).toBe(true);
    await vi.waitFor(
      async () =>
        expect(
          await sendTogether(
            redis,
            KEYS.map((key) => ["set", key, key]),
          ),
        ).toEqual(["OK", "OK", "OK"]),
      WAIT,
    );
  });

  it("fails a producer at once and lets a worker wait while all nodes are away, and recovers", async () => {
    const producer = connect(cluster.url);
    const worker = connect(cluster.url, "worker");
    const [failing, waiting] = await Promise.all([producer.connecting, worker.connecting]);
    await Promise.all(cluster.masters.map((master) => master.kill()));
    for (const { health } of [producer, worker]) await expect.poll(() => health.report().ready, WAIT).toBe(false);
    await expect(failing.get("{a}")).rejects.toThrow(/closed|isn't ready/);
    const answers = Promise.all(KEYS.map((key) => waiting.set(key, "later")));
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    await Promise.all(cluster.masters.map((master) => master.restart()));
    expect(await answers).toEqual(["OK", "OK", "OK"]);
    for (const { health } of [producer, worker]) await expect.poll(() => health.report().ready, WAIT).toBe(true);
    await vi.waitFor(async () => expect(await failing.get("{a}")).toBe("later"), WAIT);
  });

  it("follows slots to another node during and after a move", async () => {
    const redis = await connect(cluster.url).connecting;
    const slot = await redis.cluster("KEYSLOT", "{moving}");
    const keys = Array.from({ length: 300 }, (_, index) => `{moving}${index}`);
    await sendTogether(
      redis,
      keys.map((key) => ["set", key, 0]),
    );
    const done = new AbortController();
    const moved = cluster.moveSlot(slot, await notTheOwner(slot)).finally(() => done.abort());
    let rounds = 0;
    do {
      const replies = await sendTogether(
        redis,
        keys.map((key) => ["incr", key]),
      );
      rounds += 1;
      expect([...new Set(replies)]).toEqual([rounds]);
    } while (!done.signal.aborted);
    await moved;
    expect(
      await sendTogether(
        redis,
        keys.map((key) => ["get", key]),
      ),
    ).toEqual(keys.map(() => String(rounds)));
  });

  async function notTheOwner(slot: number): Promise<RedisServer> {
    const redis = await connect(cluster.url).connecting;
    const owner = (await redis.cluster("SLOTS")).find(([from, to]) => from <= slot && slot <= to)?.[2]?.[1];
    const other = cluster.masters.find(({ port }) => port !== owner);
    if (other === undefined) throw new Error("one node has all slots");
    return other;
  }

  it("warns of a setting that can lose accepted data, on any node", async () => {
    const redis = await connect(cluster.url).connecting;
    const [, second, third] = mastersOf(redis);
    await second?.config("SET", "maxmemory-policy", "allkeys-lru");
    await Promise.all(mastersOf(redis).map((master) => master.config("SET", "appendonly", master === third ? "no" : "yes")));
    const warn = vi.spyOn(logger, "warn");
    await warnIfNotDurable(redis, logger);
    expect(warn.mock.calls.flat().filter((argument) => typeof argument === "string")).toEqual([
      expect.stringContaining("appendonly off"),
      expect.stringContaining("evict"),
    ]);
  });

  it("reports a server that is not in a cluster, and a single server that is a cluster node", async () => {
    expect(await refusal(`redis+cluster://:hunter2@127.0.0.1:${single.port}`)).toMatch(/not in cluster mode.*redis:\/\//);
    expect(await refusal(`redis://:hunter2@127.0.0.1:${cluster.masters[1]?.port}`)).toMatch(/node of a cluster.*redis\+cluster:\/\//);
  });

  it("reports a refused login and unreachable nodes", async () => {
    expect(await refusal(`redis+cluster://127.0.0.1:${cluster.masters[0]?.port}`)).toMatch(/NOAUTH/);
    expect(await refusal(`redis+cluster://:wrong@127.0.0.1:${cluster.masters[0]?.port}`)).toMatch(/WRONGPASS/);
    expect(await refusal("redis+cluster://:hunter2@127.0.0.1:1,127.0.0.1:2", 500)).toMatch(
      /redis\+cluster:\/\/\*\*\*@127\.0\.0\.1:1,127\.0\.0\.1:2 .*ECONNREFUSED/,
    );
  });
});

describe("connectRedis on a cluster with TLS", () => {
  const AUTHORITY = `ssl_ca_certs=${certificate("ca")}`;
  const CLIENT = `ssl_certfile=${certificate("client")}&ssl_keyfile=${certificate("client-key")}`;
  let cluster: RedisCluster;
  let hosts: string;
  /** The nodes announce addresses, and their certificates are for `localhost` only. */
  let clusterNatMap: string[];

  beforeAll(async () => {
    lifecycle = new Lifecycle(logger);
    cluster = await startRedisCluster({ tls: true, password: "hunter2" });
    hosts = cluster.masters.map(({ tlsPort }) => `localhost:${tlsPort}`).join(",");
    clusterNatMap = cluster.masters.map(({ tlsPort }) => `127.0.0.1:${tlsPort}=localhost:${tlsPort}`);
  });
  afterAll(async () => {
    await cluster.stop();
    await lifecycle.close();
  });

  it("reaches every node through the address map, by the name in its certificate", async () => {
    const redis = await connect({ url: `rediss+cluster://:hunter2@${hosts}?${AUTHORITY}&${CLIENT}`, clusterNatMap }).connecting;
    expect(
      await sendTogether(
        redis,
        KEYS.map((key) => ["set", key, key]),
      ),
    ).toEqual(["OK", "OK", "OK"]);
    expect(mastersOf(redis).map(({ options: { host, tls } }) => [host, tls?.servername])).toEqual(
      KEYS.map(() => ["localhost", "localhost"]),
    );
  });

  it("reaches every node by the certificate name in the URL", async () => {
    const { connecting } = connect(`rediss+cluster://:hunter2@${hosts}?${AUTHORITY}&${CLIENT}&ssl_server_hostname=localhost`);
    expect(
      await sendTogether(
        await connecting,
        KEYS.map((key) => ["set", key, key]),
      ),
    ).toEqual(["OK", "OK", "OK"]);
  });

  it("rejects a node whose announced address is not in its certificate, and says what to set", async () => {
    expect(await refusal(`rediss+cluster://:hunter2@${hosts}?${AUTHORITY}&${CLIENT}`)).toMatch(/for another host.*ssl_server_hostname/);
  });

  it.each([
    ["an unknown authority", CLIENT, /not trusted.*ssl_ca_certs/],
    ["a connection without a client certificate", AUTHORITY, /requires a client certificate.*ssl_certfile/],
  ])("rejects %s, and says what to set", async (_what, query, message) => {
    // The server's alert may be lost when it closes. The hint is reported when the startup timeout ends.
    expect(await refusal({ url: `rediss+cluster://:hunter2@${hosts}?${query}`, clusterNatMap }, 6_000)).toMatch(message);
  });
});
