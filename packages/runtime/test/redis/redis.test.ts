import { sharedRedisUrl, startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { createServer, type AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { Health, Lifecycle, UnavailableError, connectRedis, createLogger, warnIfNotDurable, type RedisUse } from "../../src/index.ts";

/** Its `maximumBlockTimeout`. */
const BULLMQ_BLOCKS_SECONDS = 10;

const logger = createLogger("test", "silent");
let server: RedisServer;

beforeAll(async () => {
  server = await startRedis();
});

afterAll(async () => {
  // Redis does not end in good order while it writes its first append-only file, which a test below begins.
  await server.kill();
  await server.stop();
});

function connect(url: string, startupTimeoutMs = 5_000, use: RedisUse = "producer") {
  const lifecycle = new Lifecycle(logger);
  const health = new Health();
  const logs: Record<string, unknown>[] = [];
  const own = createLogger("test", "info", { write: (line) => void logs.push(JSON.parse(line) as Record<string, unknown>) });
  const connecting = connectRedis({ url, use, name: "Redis", startupTimeoutMs, logger: own, lifecycle, health });
  return { lifecycle, health, connecting, logs };
}

describe("connectRedis", () => {
  it("is ready when it resolves, and closes with the process", async () => {
    const { lifecycle, health, connecting } = connect(server.url);
    const redis = await connecting;
    expect(health.report().ready).toBe(true);
    await lifecycle.close();
    await expect.poll(() => redis.status).toBe("end");
  });

  it("tells while Redis is away, and recovers by itself", async () => {
    const { lifecycle, health, connecting } = connect(server.url);
    const redis = await connecting;
    await server.kill();
    await expect.poll(() => health.report().ready).toBe(false);
    await expect(redis.ping()).rejects.toBeInstanceOf(Error);
    await server.restart();
    await expect.poll(() => health.report().ready, { timeout: 10_000 }).toBe(true);
    expect(await redis.ping()).toBe("PONG");
    await lifecycle.close();
  });

  // Long, so together with the next; that one has a Redis that does not hang.
  it.concurrent("gives up a Redis that hangs without closing anything, and recovers by itself", async () => {
    const producer = connect(server.url);
    const worker = connect(server.url, 5_000, "worker");
    const redis = await producer.connecting;
    const blocking = await worker.connecting;
    process.kill(server.pid, "SIGSTOP");
    const waiting = blocking.bzpopmin("nothing", 1);
    try {
      await expect(redis.ping()).rejects.toThrow(/timed out|closed|timeout/i);
      for (const { health } of [producer, worker]) await vi.waitFor(() => expect(health.report().ready).toBe(false), { timeout: 25_000 });
    } finally {
      process.kill(server.pid, "SIGCONT");
    }
    for (const { health } of [producer, worker]) await vi.waitFor(() => expect(health.report().ready).toBe(true), { timeout: 10_000 });
    expect(await redis.ping()).toBe("PONG");
    // Asked again on the new connection.
    expect(await waiting).toBeNull();
    for (const { lifecycle } of [producer, worker]) await lifecycle.close();
  });

  it.concurrent("is not alarmed by the longest wait that BullMQ asks for, nor by an event loop that stands still", async () => {
    const { lifecycle, connecting } = connect(sharedRedisUrl(), 5_000, "worker");
    const redis = await connecting;
    let lost = 0;
    redis.on("close", () => (lost += 1));
    const waiting = redis.bzpopmin("nothing", BULLMQ_BLOCKS_SECONDS);
    await new Promise((resolve) => setTimeout(resolve, 1_000 * BULLMQ_BLOCKS_SECONDS - 1_000));
    const until = performance.now() + 2_000;
    while (performance.now() < until);
    expect(await waiting).toBeNull();
    expect(lost).toBe(0);
    await lifecycle.close();
  });

  it("says where it looked and what to set when nobody answers, without the password", async () => {
    const { lifecycle, connecting } = connect("redis://:hunter2@127.0.0.1:1", 500);
    const error = await connecting.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UnavailableError);
    expect(String(error)).toMatch(/Cannot reach Redis at redis:\/\/\*\*\*@127\.0\.0\.1:1 .*ECONNREFUSED.*REDIS_URL/);
    expect(String(error)).not.toContain("hunter2");
    await lifecycle.close();
  });

  it("does not wait when it is refused, and says what is wrong", async () => {
    const admin = connect(server.url);
    const redis = await admin.connecting;
    await redis.config("SET", "requirepass", "correct");
    const wrong = server.url.replace("redis://", "redis://:hunter2@");
    for (const [url, reason] of [
      [server.url, /Redis at redis:.* refuses us: it wants a password, and REDIS_URL has none \(NOAUTH.*\)\. Check REDIS_URL\.$/],
      [wrong, /Redis at redis:.* refuses us: user or password is wrong \(WRONGPASS.*\)\. Check REDIS_URL\.$/],
    ] as const) {
      const { lifecycle, connecting } = connect(url, 60_000);
      await expect(connecting).rejects.toThrow(reason);
      await lifecycle.close();
    }
    await redis.config("SET", "requirepass", "");
    await admin.lifecycle.close();
  });

  it.each([
    ["a RabbitMQ", "AMQP\0\0\x09\x01"],
    ["an HTTP server", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"],
  ])("says at once that it is %s", async (_, answer) => {
    const other = createServer((socket) => socket.on("error", () => {}).once("data", () => socket.end(answer)));
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { lifecycle, connecting } = connect(`redis://127.0.0.1:${(other.address() as AddressInfo).port}`, 60_000);
    await expect(connecting).rejects.toThrow(/^Cannot use Redis at .*: something else than Redis listens there\. Correct REDIS_URL\.$/);
    await lifecycle.close();
    other.close();
  });

  it("says at once what it waits for, and when that is there", async () => {
    const late = await startRedis();
    await late.kill();
    const { lifecycle, connecting, logs } = connect(late.url, 20_000);
    await vi.waitFor(() => expect(logs).toHaveLength(1), { timeout: 1_500 });
    expect(logs[0]).toMatchObject({
      level: "info",
      server: late.url,
      reason: expect.stringContaining("ECONNREFUSED") as string,
      msg: "waiting for Redis",
    });
    await late.restart();
    await connecting;
    expect(logs.map(({ msg }) => msg)).toEqual(["waiting for Redis", "Redis is there"]);
    await lifecycle.close();
    await late.stop();
  });

  it("says that it waits where Redis takes the connection and does not answer", async () => {
    const silent = createServer((socket) => void socket.on("error", () => {}).resume());
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const { lifecycle, connecting, logs } = connect(`redis://127.0.0.1:${(silent.address() as AddressInfo).port}`, 4_000);
    await expect(connecting).rejects.toThrow(/Cannot reach Redis/);
    expect(logs[0]).toMatchObject({ msg: "waiting for Redis" });
    await lifecycle.close();
    silent.close();
  });
});

describe("warnIfNotDurable", () => {
  it("warns of settings that lose what was accepted, and of nothing else", async () => {
    const { lifecycle, connecting } = connect(server.url);
    const redis = await connecting;
    const warn = vi.spyOn(logger, "warn");
    await redis.config("SET", "appendonly", "no");
    await redis.config("SET", "maxmemory-policy", "allkeys-lru");
    await warnIfNotDurable(redis, logger);
    expect(warn.mock.calls.flat().filter((argument) => typeof argument === "string")).toEqual([
      expect.stringContaining("appendonly off"),
      expect.stringContaining("evict"),
    ]);
    warn.mockClear();
    await redis.config("SET", "appendonly", "yes");
    await redis.config("SET", "maxmemory-policy", "noeviction");
    await warnIfNotDurable(redis, logger);
    expect(warn).not.toHaveBeenCalled();
    await lifecycle.close();
  });
});
