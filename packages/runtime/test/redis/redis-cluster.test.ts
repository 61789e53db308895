/** Connections to a Redis Cluster: that they get to every node, and what they tell of those they cannot get to. */
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
/** Of every node, with three. */
const KEYS = ["{a}", "{b}", "{c}"];
/** Of all connections to a cluster. Closed after it: none of them is in the middle of a TLS handshake then. */
let lifecycle: Lifecycle;

function connect(target: string | RedisTarget, use: RedisUse = "producer", startupTimeoutMs = 15_000) {
  const health = new Health();
  const options = { use, name: "Redis", startupTimeoutMs, logger, lifecycle, health };
  const connecting = connectRedis({ ...(typeof target === "string" ? { url: target } : target), ...options });
  return { health, connecting };
}

/** The message of what ends a start, which must come at once and without the password. */
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

  it.each(["producer", "worker", "viewer"] as const)("has every node at hand when it resolves, as a %s", async (use) => {
    const { health, connecting } = connect(`redis+cluster://:hunter2@127.0.0.1:${cluster.masters[2]?.port}`, use);
    const redis = await connecting;
    expect(health.report().ready).toBe(true);
    // Without a queue of commands that wait for a connection, all of them have to be there.
    expect(await sendTogether(redis, [...KEYS.map((key) => ["set", key, key]), ...KEYS.map((key) => ["get", key])])).toEqual([
      ...KEYS.map(() => "OK"),
      ...KEYS,
    ]);
    const sizes = await Promise.all(mastersOf(redis).map((master) => master.dbsize()));
    expect(sizes).toEqual([1, 1, 1]);
    expect(await redis.client("GETNAME")).toBe("celery-metrics-exporter:Redis");
  });

  it("tells of the node that is away, fails at once there and only there, and has it back", async () => {
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

  it("fails a producer at once and keeps a worker waiting while all nodes are away, and has all back", async () => {
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

  it("follows slots to another node while they move and afterwards", async () => {
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

  it("warns of a setting that loses what was accepted, on whichever node", async () => {
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

  it("says so where the server is in no cluster, and where one server is a node of a cluster", async () => {
    expect(await refusal(`redis+cluster://:hunter2@127.0.0.1:${single.port}`)).toMatch(/not in cluster mode.*redis:\/\//);
    expect(await refusal(`redis://:hunter2@127.0.0.1:${cluster.masters[1]?.port}`)).toMatch(/node of a cluster.*redis\+cluster:\/\//);
  });

  it("says so where it is refused, and where nobody answers", async () => {
    expect(await refusal(`redis+cluster://127.0.0.1:${cluster.masters[0]?.port}`)).toMatch(/NOAUTH/);
    expect(await refusal(`redis+cluster://:wrong@127.0.0.1:${cluster.masters[0]?.port}`)).toMatch(/WRONGPASS/);
    expect(await refusal("redis+cluster://:hunter2@127.0.0.1:1,127.0.0.1:2", 500)).toMatch(
      /redis\+cluster:\/\/\*\*\*@127\.0\.0\.1:1,127\.0\.0\.1:2 .*ECONNREFUSED/,
    );
  });
});

describe("connectRedis on a cluster that speaks TLS", () => {
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

  it("reaches every node where the map of addresses says, by the name in its certificate", async () => {
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

  it("reaches every node by the one name that the URL gives for all of them", async () => {
    const { connecting } = connect(`rediss+cluster://:hunter2@${hosts}?${AUTHORITY}&${CLIENT}&ssl_server_hostname=localhost`);
    expect(
      await sendTogether(
        await connecting,
        KEYS.map((key) => ["set", key, key]),
      ),
    ).toEqual(["OK", "OK", "OK"]);
  });

  it("refuses a node that announces what its certificate is not for, and says what to set", async () => {
    expect(await refusal(`rediss+cluster://:hunter2@${hosts}?${AUTHORITY}&${CLIENT}`)).toMatch(/for another host.*ssl_server_hostname/);
  });

  it.each([
    ["an authority that is not named", CLIENT, /not trusted.*ssl_ca_certs/],
    ["to go without a certificate", AUTHORITY, /wants a certificate of ours.*ssl_certfile/],
  ])("refuses %s, and says what to set", async (_what, query, message) => {
    // Whether the server's words arrive before it closes is a matter of luck; at the end of the start the guess is told.
    expect(await refusal({ url: `rediss+cluster://:hunter2@${hosts}?${query}`, clusterNatMap }, 6_000)).toMatch(message);
  });
});
