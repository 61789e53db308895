import { expect, it } from "vitest";
import { describeSource, parseBrokerUrl, type SourceOptions } from "../../src/index.ts";

const OPTIONS = {
  rabbitmq: { exchange: "celeryev", queue: "cme", queueType: "quorum", queueMaxBytes: 1, queueExpiresMs: 1, prefetch: 1 },
  redis: { exchange: "celeryev", globalKeyprefix: "", fanoutPrefix: true, bufferMaxBytes: 1 },
} as unknown as SourceOptions;

function describeUrl(url: string, options: SourceOptions = OPTIONS): string {
  const parsed = parseBrokerUrl(url);
  if (!parsed.ok) throw new Error(parsed.problem);
  return describeSource(parsed.url, options, "host-a");
}

it.each([
  ["amqp://user:secret@rabbit/shop", "amqp://rabbit:5672/shop, queue cme, exchange celeryev"],
  ["amqp://other:secret@rabbit/shop", "amqp://rabbit:5672/shop, queue cme, exchange celeryev"],
  ["amqp://u:p@b//;amqp://u:p@a//", "amqp://a:5672//;amqp://b:5672//, queue cme, exchange celeryev"],
  ["amqp://127.0.0.1//", "amqp://127.0.0.1:5672//, queue cme, exchange celeryev (on host-a)"],
  ["redis://:secret@redis/3", "redis://redis:6379/3, exchange celeryev"],
  ["redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock, exchange celeryev (on host-a)"],
])("%s is the same for all its receivers, without credentials", (url, expected) => {
  expect(describeUrl(url)).toBe(expected);
});

it("differs by queue, exchange and prefix", () => {
  const { rabbitmq, redis } = OPTIONS;
  expect(describeUrl("amqp://rabbit//", { redis, rabbitmq: { ...rabbitmq, queue: "staging" } })).toContain("queue staging");
  expect(describeUrl("redis://redis/0", { rabbitmq, redis: { ...redis, globalKeyprefix: "shop:" } })).toContain("prefix shop:");
});
