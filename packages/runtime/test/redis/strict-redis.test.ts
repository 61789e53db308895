/** Refusals by Redis while connecting: none may leave a connection that works in the wrong place. */
import { TcpProxy, startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { Health, Lifecycle, UnavailableError, connectRedis, createLogger, type RedisUse } from "../../src/index.ts";

const USES = ["producer", "worker", "viewer"] as const;
const WAIT = { timeout: 20_000 };
const logger = createLogger("test", "silent");
const releases: (() => unknown)[] = [];

afterEach(async () => {
  for (const release of releases.splice(0).toReversed()) await release();
});

interface Start {
  readonly startupTimeoutMs?: number;
  readonly use?: RedisUse;
}

function connect(url: string, { startupTimeoutMs = 60_000, use = "producer" }: Start = {}) {
  const lifecycle = new Lifecycle(logger);
  releases.push(() => lifecycle.close());
  const health = new Health();
  return { health, connecting: connectRedis({ url, use, name: "Redis", startupTimeoutMs, logger, lifecycle, health }) };
}

/** The message of the startup failure. */
async function refusal(url: string, options?: Start): Promise<string> {
  const error: unknown = await connect(url, options).connecting.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(UnavailableError);
  return String(error);
}

async function redisServer(...args: string[]): Promise<RedisServer> {
  const server = await startRedis({ args });
  releases.push(() => server.stop());
  return server;
}

function adminOf(server: RedisServer): Redis {
  const admin = new Redis(server.url);
  releases.push(() => admin.disconnect());
  return admin;
}

async function keysOf(server: RedisServer): Promise<string> {
  return (await adminOf(server).info("keyspace")).replace("# Keyspace", "").trim();
}

describe("at start", () => {
  let single: RedisServer;
  beforeAll(async () => {
    single = await startRedis({ args: ["--databases", "1"] });
  });
  afterAll(() => single.stop());

  it.each(USES)("fails at once if the database does not exist, as a %s", async (use) => {
    expect(await refusal(`${single.url}/1`, { use })).toMatch(
      /Cannot use Redis at redis:\/\/.*\/1: ERR DB index is out of range.*`databases`/,
    );
    expect(await keysOf(single)).toBe("");
  });

  it("fails at once if SELECT does not exist", async () => {
    const server = await redisServer("--rename-command", "SELECT", "");
    expect(await refusal(`${server.url}/1`)).toMatch(/unknown command .*SELECT/i);
    await expect(connect(server.url).connecting).resolves.toBeDefined();
  });

  it("fails at once if our user may not SELECT", async () => {
    const server = await redisServer("--user", "default", "on", "nopass", "~*", "&*", "+@all", "-select");
    expect(await refusal(`${server.url}/1`)).toMatch(/NOPERM.*select/);
  });

  it("fails at once if Redis denies other hosts", async () => {
    const denying = createServer((socket) => socket.on("error", () => {}).end("-DENIED Redis is running in protected mode because …\r\n"));
    denying.listen(0, "127.0.0.1");
    await once(denying, "listening");
    releases.push(() => denying.close());
    expect(await refusal(`redis://127.0.0.1:${(denying.address() as AddressInfo).port}`)).toMatch(/DENIED.*protected mode/);
  });

  it("waits for a replica to become the master, and fails if it does not", async () => {
    const master = await redisServer();
    const replica = await redisServer("--replicaof", `127.0.0.1 ${master.port}`, "--replica-read-only", "no");
    expect(await refusal(replica.url, { startupTimeoutMs: 500 })).toMatch(/READONLY it is a replica/);
    const { connecting } = connect(replica.url);
    await adminOf(replica).replicaof("NO", "ONE");
    expect(await (await connecting).set("key", "value")).toBe("OK");
  });

  // The server may still count a client that has just disconnected, such as the one that waited for its start.
  it("waits for a client to leave, and reports the limit if none does", { retry: 2, timeout: 20_000 }, async () => {
    const server = await redisServer("--maxclients", "1");
    const admin = adminOf(server);
    await admin.ping();
    expect(await refusal(server.url, { startupTimeoutMs: 2_000 })).toMatch(/max number of clients/);
    const { connecting } = connect(server.url);
    admin.disconnect();
    expect(await (await connecting).ping()).toBe("PONG");
  });

  it("reports that Redis is loading its data", async () => {
    const server = await redisServer(
      "--key-load-delay",
      "10000",
      "--loading-process-events-interval-bytes",
      "1024",
      "--rdbcompression",
      "no",
    );
    const admin = adminOf(server);
    await admin.mset(Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`key${index}`, "x".repeat(100)])));
    await admin.save();
    await server.kill();
    const loaded = server.start();
    await vi.waitUntil(() => /LOADING|Reading RDB|Loading RDB/.test(server.logTail()), WAIT);
    expect(await refusal(`${server.url}/1`, { startupTimeoutMs: 500 })).toMatch(/loading its data/);
    expect(await (await connect(`${server.url}/1`).connecting).ping()).toBe("PONG");
    await loaded;
  });

  it("ignores that Redis rejects our client name and version", async () => {
    const server = await redisServer("--rename-command", "CLIENT", "", "--rename-command", "HELLO", "");
    const redis = await connect(`${server.url}/3`).connecting;
    await redis.set("key", "value");
    expect(await keysOf(server)).toMatch(/^db3:keys=1/);
  });
});

describe("after a reconnect", () => {
  it.each(USES)("writes nothing to another database, reports it, and continues when its own is back, as a %s", async (use) => {
    const home = await redisServer();
    const other = await redisServer("--databases", "1");
    const proxy = await TcpProxy.start(home.port);
    releases.push(() => proxy.stop());
    const { health, connecting } = connect(proxy.inFrontOf(`${home.url}/5`), { use });
    const redis = await connecting;
    if (!(redis instanceof Redis)) throw new Error("it is a cluster");
    const copy = redis.duplicate();
    releases.push(() => copy.disconnect());
    copy.on("error", () => {});
    await copy.connect();
    await copy.set("before", 1);
    proxy.redirect(other.port);
    await expect.poll(() => JSON.stringify(health.report()), WAIT).toMatch(/DB index is out of range/);
    // A producer's command fails; a worker waits.
    const written = Promise.allSettled([redis, copy].map((connection) => connection.set("during", 1)));
    // Long enough for several reconnects.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(health.report().ready).toBe(false);
    expect(await keysOf(other)).toBe("");
    proxy.redirect(home.port);
    await expect.poll(() => health.report().ready, WAIT).toBe(true);
    await written;
    await expect
      .poll(() => Promise.all([redis, copy].map((connection) => connection.set("after", 1).catch(String))), WAIT)
      .toEqual(["OK", "OK"]);
    expect(await keysOf(home)).toMatch(/^db5:keys=[23]\b\S*$/);
    expect(await keysOf(other)).toBe("");
  });

  it.each([
    ["SELECT", (admin: Redis) => admin.acl("SETUSER", "default", "-select"), (admin: Redis) => admin.acl("SETUSER", "default", "+select")],
    [
      "writes to a server that has become a replica",
      (admin: Redis) => admin.replicaof("127.0.0.1", 1),
      (admin: Redis) => admin.replicaof("NO", "ONE"),
    ],
  ] as const)("is not ready while Redis refuses %s", async (_what, forbid, allow) => {
    const server = await redisServer();
    const admin = adminOf(server);
    const { health, connecting } = connect(`${server.url}/1`);
    await connecting;
    await forbid(admin);
    await admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    await expect.poll(() => JSON.stringify(health.report()), WAIT).toMatch(/NOPERM|READONLY/);
    await allow(admin);
    await expect.poll(() => health.report().ready, WAIT).toBe(true);
    expect(await keysOf(server)).toBe("");
  });
});
