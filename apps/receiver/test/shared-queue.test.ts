/** Two deployments on one RabbitMQ queue, which are noticed because some consumers have not signed in at our Redis. */
import { ReceiverRegister } from "@celery-metrics-exporter/pipeline";
import { sharedRabbitmqUrl, sharedRedisUrl } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { randomUUID } from "node:crypto";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { loadConfig } from "@celery-metrics-exporter/runtime";
import { Config, consumerTag } from "../src/config.ts";
import { SharedQueueWatch } from "../src/standby/shared-queue.ts";
import { Stage } from "./running-receiver.ts";

const WAIT = { timeout: 10_000, interval: 20 };

function tagOf(env: Readonly<Record<string, string>>): string {
  return consumerTag(loadConfig(Config, { CELERY_BROKER_URL: "amqp://h", ...env }));
}

describe("SharedQueueWatch", () => {
  const prefix = `{${randomUUID()}}`;
  let redis: Redis;
  let watches: SharedQueueWatch[];
  let warnings: Record<string, unknown>[];

  beforeEach(() => {
    redis = new Redis(sharedRedisUrl());
    watches = [];
    warnings = [];
  });
  afterEach(async () => {
    await Promise.all(watches.map((watch) => watch.stop()));
    await redis.quit();
  });

  const register = (queue: string): ReceiverRegister => new ReceiverRegister({ redis, prefix, stream: queue });

  function startWatch(queue: string, consumers: () => number | undefined): SharedQueueWatch {
    const logger = pino({ level: "warn" }, { write: (line: string) => void warnings.push(JSON.parse(line) as Record<string, unknown>) });
    const started = new SharedQueueWatch({
      consumers: () => Promise.resolve(consumers()),
      register: register(queue),
      queue,
      logger,
      everyMs: 10,
    });
    watches.push(started);
    started.start();
    return started;
  }

  it("warns while another deployment reads the queue, and not at every check", async () => {
    let looks = 0;
    startWatch("strangers", () => {
      looks += 1;
      return 2;
    });
    await vi.waitFor(() => expect(looks).toBeGreaterThan(40), WAIT);
    expect(warnings[0]).toMatchObject({
      queue: "strangers",
      consumers: 2,
      receivers: 1,
      msg: expect.stringContaining("RABBITMQ_QUEUE") as string,
    });
    expect(warnings).toHaveLength(1);
  });

  it("does not warn about our own receivers, about short-lived consumers, or without information", async () => {
    let looks = 0;
    const counts = [3, 3, 3, 2, undefined, 3, 3, 3, 1];
    await register("ours").signIn();
    startWatch("ours", () => counts[looks++ % counts.length]);
    await vi.waitFor(() => expect(looks).toBeGreaterThan(3 * counts.length), WAIT);
    expect(warnings).toEqual([]);
  });

  it("forgets a receiver that has stopped, or has not signed in for a long time", async () => {
    const [first, second] = [register("gone"), register("gone")];
    expect([await first.signIn(), await second.signIn()]).toEqual([1, 2]);
    await second.signOut();
    expect(await first.signIn()).toBe(1);
    const [brief, stays] = ["brief", "brief"].map((stream) => new ReceiverRegister({ redis, prefix, stream, ttlMs: 50 }));
    await brief?.signIn();
    await vi.waitFor(async () => expect(await stays?.signIn()).toBe(1), WAIT);
  });
});

describe("a receiver's consumer", () => {
  it("names its deployment, and counts the consumers of its queue", async () => {
    const stage = new Stage();
    try {
      const channel = await stage.channel();
      const running = await stage.startReceiver(sharedRabbitmqUrl());
      const register = await stage.redis.keys(`${stage.prefix.replaceAll(/[{}]/g, "?")}:receiver:*:all`);
      expect(register).toHaveLength(1);
      expect(await stage.redis.zcard(register[0] ?? "")).toBe(1);
      expect((await channel.checkQueue(stage.rabbitmqQueue)).consumerCount).toBe(1);
      await running.stop();
      expect(await stage.redis.zcard(register[0] ?? "")).toBe(0);
    } finally {
      await stage.release();
    }
  });

  it("has a name that differs by Redis, database and prefix, and contains no secret", () => {
    const ours = tagOf({ REDIS_URL: "redis://:secret@redis/0" });
    expect(ours).toMatch(/^celery-metrics-exporter [0-9a-f]{8} \S+ \d+$/);
    expect(tagOf({ REDIS_URL: "redis://:other@redis/0" })).toBe(ours);
    const others = [
      { REDIS_URL: "redis://redis2/0" },
      { REDIS_URL: "redis://redis/1" },
      { REDIS_URL: "redis://redis/0", QUEUE_PREFIX: "{x}" },
    ];
    expect(new Set([ours, ...others.map(tagOf)]).size).toBe(4);
  });
});
