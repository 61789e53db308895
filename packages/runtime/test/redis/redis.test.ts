import { sharedRedisUrl, startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { createServer, type AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { Health, Lifecycle, UnavailableError, connectRedis, createLogger, warnIfNotDurable, type RedisUse } from "../../src/index.ts";

/** BullMQ's `maximumBlockTimeout`. */
const BULLMQ_BLOCKS_SECONDS = 10;

const logger = createLogger("test", "silent");
let server: RedisServer;

beforeAll(async () => {
  server = await startRedis();
});

afterAll(async () => {
  // Redis does not stop cleanly while it writes its first append-only file, which a test below starts.
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
  it("is connected when it resolves, and closes with the process", async () => {
    const { lifecycle, health, connecting } = connect(server.url);
    const redis = await connecting;
    expect(health.report().ready).toBe(true);
    await lifecycle.close();
    await expect.poll(() => redis.status).toBe("end");
  });

  it("reports that Redis is unavailable, and recovers by itself", async () => {
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

  // Slow, so it runs together with the next, which uses a Redis that does not hang.
  it.concurrent("gives up a connection to a hung Redis, and recovers by itself", async () => {
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
    // Sent again on the new connection.
    expect(await waiting).toBeNull();
    for (const { lifecycle } of [producer, worker]) await lifecycle.close();
  });

  it.concurrent("survives the longest wait that BullMQ requests, and a blocked event loop", async () => {
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

  it("names the address and the setting when nothing answers, without the password", async () => {
    const { lifecycle, connecting } = connect("redis://:hunter2@127.0.0.1:1", 500);
    const error = await connecting.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UnavailableError);
    expect(String(error)).toMatch(/Cannot reach Redis at redis:\/\/\*\*\*@127\.0\.0\.1:1 .*ECONNREFUSED.*REDIS_URL/);
    expect(String(error)).not.toContain("hunter2");
    await lifecycle.close();
  });

  it("does not wait when access is refused, and says what is wrong", async () => {
    const admin = connect(server.url);
    const redis = await admin.connecting;
    await redis.config("SET", "requirepass", "correct");
    const wrong = server.url.replace("redis://", "redis://:hunter2@");
    for (const [url, reason] of [
      [
        server.url,
        /Redis at redis:.* refused access: it requires a password, and REDIS_URL contains none \(NOAUTH.*\)\. Check REDIS_URL\.$/,
      ],
      [wrong, /Redis at redis:.* refused access: the user name or password is wrong \(WRONGPASS.*\)\. Check REDIS_URL\.$/],
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
  ])("reports at once that it is %s", async (_, answer) => {
    const other = createServer((socket) => socket.on("error", () => {}).once("data", () => socket.end(answer)));
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { lifecycle, connecting } = connect(`redis://127.0.0.1:${(other.address() as AddressInfo).port}`, 60_000);
    await expect(connecting).rejects.toThrow(/^Cannot use Redis at .*: a server other than Redis listens there\. Correct REDIS_URL\.$/);
    await lifecycle.close();
    other.close();
  });

  it("reports at once what it waits for, and when that is available", async () => {
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
    expect(logs.map(({ msg }) => msg)).toEqual(["waiting for Redis", "Redis is available"]);
    await lifecycle.close();
    await late.stop();
  });

  it("reports that it waits if Redis accepts the connection and does not answer", async () => {
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
  it("warns only of settings that can lose accepted data", async () => {
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
