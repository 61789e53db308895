import { decodeEnvelope } from "@celery-metrics-exporter/celery";
import amqp from "amqplib";
import { Redis } from "ioredis";
import { once } from "node:events";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import {
  TcpProxy,
  connectPublisher,
  createVhost,
  publishToRabbitmq,
  publishToRedis,
  startRedis,
  toFrames,
  type RedisServer,
  type TestVhost,
  type WireEvent,
} from "../src/index.ts";

function event(type: string, hostname: string, uuid: string): WireEvent {
  return { type, hostname, timestamp: 1_795_328_900.25, uuid, name: "shop.été" };
}

const EVENTS = [event("task-sent", "client@a", "1"), event("task-started", "worker@a", "1"), event("task-started", "worker@b", "2")];

test("clients' events are sent singly, and each worker's in one list, in ASCII", () => {
  const frames = toFrames([...EVENTS, event("task-started", "worker@a", "3")]);
  expect(frames.map(({ routingKey, hostname }) => [routingKey, hostname])).toEqual([
    ["task.sent", "client@a"],
    ["task.multi", "worker@a"],
    ["task.multi", "worker@b"],
  ]);
  expect(frames.map(({ body }) => (JSON.parse(body.toString()) as WireEvent[]).length ?? 1)).toEqual([1, 2, 1]);
  expect(frames.map(({ body }) => body.toString()).join()).toMatch(/^[\0-\x7f]*$/);
});

test("a worker's list has at most 24 events", () => {
  const frames = toFrames(Array.from({ length: 25 }, (_, index) => event("task-started", "worker@a", String(index))));
  expect(frames.map(({ body }) => (JSON.parse(body.toString()) as WireEvent[]).length)).toEqual([24, 1]);
});

test("on Redis a frame is kombu's envelope on its own channel, and a frame without a subscriber is an error if it needs one", async () => {
  const redis: RedisServer = await startRedis();
  const subscriber = new Redis(redis.url);
  const publisher = await connectPublisher(`${redis.url}/3`);
  const careless = publishToRedis(new Redis(redis.url), 3, { mustBeHeard: false });
  try {
    await expect(publisher.publish(toFrames(EVENTS))).rejects.toThrow("3 frames had no subscriber");
    await careless.publish(toFrames(EVENTS));
    await subscriber.psubscribe("*");
    const heard: [string, string][] = [];
    subscriber.on("pmessage", (_pattern, channel: string, message: string) => heard.push([channel, message]));
    await publisher.publish(toFrames(EVENTS));
    await vi.waitFor(() => expect(heard).toHaveLength(3));
    expect(heard.map(([channel]) => channel)).toEqual(["/3.celeryev/task.sent", "/3.celeryev/task.multi", "/3.celeryev/task.multi"]);
    const events = heard.flatMap(([, message]) => decodeEnvelope(message).events);
    expect(events.map(({ type, hostname }) => [type, hostname])).toEqual(EVENTS.map(({ type, hostname }) => [type, hostname]));
    expect(events[0]).toMatchObject({ name: "shop.été" });
  } finally {
    subscriber.disconnect();
    await Promise.all([publisher.close(), careless.close()]);
    await redis.stop();
  }
});

let vhost: TestVhost;

beforeAll(async () => {
  vhost = await createVhost();
});
afterAll(() => vhost.drop());

test("a RabbitMQ that cannot be reached at first is an error", async () => {
  await expect(publishToRabbitmq(() => amqp.connect("amqp://127.0.0.1:1"))).rejects.toThrow("ECONNREFUSED");
});

test("RabbitMQ gets everything in the end, however often the connection is lost", async () => {
  const proxy = await TcpProxy.start(Number(new URL(vhost.url).port));
  const connection = await amqp.connect(vhost.url);
  const channel = await connection.createChannel();
  const publisher = await publishToRabbitmq(() => amqp.connect(proxy.inFrontOf(vhost.url)));
  try {
    const { queue } = await channel.assertQueue("", { exclusive: true });
    await channel.bindQueue(queue, "celeryev", "#");
    const keys = new Set<string>();
    await channel.consume(queue, (message) => message !== null && keys.add(message.content.toString()), { noAck: true });
    const frames = Array.from({ length: 300 }, (_, index) => toFrames([event("task-started", "worker@a", String(index))]));
    for (const [index, some] of frames.entries()) {
      if (index % 100 === 50) proxy.cut();
      await publisher.publish(some);
    }
    await publisher.confirmed();
    await vi.waitFor(() => expect(keys.size).toBe(300));
  } finally {
    await publisher.close();
    const closed = once(connection, "close");
    await connection.close();
    await closed;
    await proxy.stop();
  }
});

test("a publisher that is closed while its RabbitMQ is away stops waiting", async () => {
  const proxy = await TcpProxy.start(Number(new URL(vhost.url).port));
  const publisher = await publishToRabbitmq(() => amqp.connect(proxy.inFrontOf(vhost.url)));
  await proxy.stop();
  const publishing = publisher.publish(toFrames(EVENTS)).then(
    () => publisher.confirmed(),
    () => {},
  );
  await publisher.close();
  await expect(publishing).resolves.toBeUndefined();
});
