/** Sends events to the broker the way a Celery worker does. */
import { connectRabbitmq, parseBrokerUrl, type BrokerUrl, type RabbitmqServer } from "@celery-metrics-exporter/broker";
import { UnavailableError, backoffMs, redactUrl, redisAddress, toError } from "@celery-metrics-exporter/runtime";
import { Redis } from "ioredis";
import { randomUUID } from "node:crypto";
import type { WireEvent } from "./simulated-task.ts";

export interface EventPublisher {
  /** Resolves when the broker has taken them. */
  publish(events: readonly WireEvent[]): Promise<void>;
  close(): Promise<void>;
}

const EXCHANGE = "celeryev";
/** A worker's events of one tick are one message (celery/events/dispatcher.py). */
const ROUTING_KEY = "task.multi";
const HEADERS = { hostname: "celery@simulated" };

/** @throws {UnavailableError} when the broker cannot be reached. */
export async function connectPublisher(url: string): Promise<EventPublisher> {
  const parsed = parseBrokerUrl(url);
  if (!parsed.ok) throw new UnavailableError(`CELERY_BROKER_URL: ${parsed.problem}.`);
  try {
    if (parsed.url.broker === "rabbitmq") return await publishToRabbitmq(parsed.url.servers);
    if (parsed.url.broker === "redis") return await publishToRedis(parsed.url);
  } catch (thrown) {
    throw new UnavailableError(`Cannot publish to ${redactUrl(url)} (${toError(thrown).message}).`, { cause: thrown });
  }
  throw new UnavailableError("The event simulator knows RabbitMQ and Redis only.");
}

async function publishToRabbitmq([server]: readonly RabbitmqServer[]): Promise<EventPublisher> {
  if (server === undefined) throw new UnavailableError("CELERY_BROKER_URL names no server.");
  const connection = await connectRabbitmq(server, { use: "demo" });
  // `publish` fails with whatever it is.
  connection.on("error", () => {});
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange(EXCHANGE, "topic", { durable: true });
  return {
    publish: async (events) => {
      const properties = { contentType: "application/json", contentEncoding: "utf-8", headers: HEADERS, deliveryMode: 1 };
      channel.publish(EXCHANGE, ROUTING_KEY, Buffer.from(JSON.stringify(events)), properties);
      await channel.waitForConfirms();
    },
    close: () => connection.close(),
  };
}

async function publishToRedis({ servers: [server] }: BrokerUrl & { broker: "redis" }): Promise<EventPublisher> {
  if (server === undefined) throw new UnavailableError("CELERY_BROKER_URL names no server.");
  const redis = new Redis({
    ...redisAddress(server, "CELERY_BROKER_URL"),
    lazyConnect: true,
    retryStrategy: (attempt) => backoffMs(attempt),
  });
  redis.on("error", () => {});
  await redis.connect();
  return {
    publish: async (events) => void (await redis.publish(`/${server.db}.${EXCHANGE}/${ROUTING_KEY}`, toEnvelope(events))),
    close: async () => void (await redis.quit()),
  };
}

/** kombu's envelope (kombu/transport/virtual/base.py). */
function toEnvelope(events: readonly WireEvent[]): string {
  return JSON.stringify({
    body: Buffer.from(JSON.stringify(events)).toString("base64"),
    "content-encoding": "utf-8",
    "content-type": "application/json",
    headers: HEADERS,
    properties: {
      delivery_mode: 1,
      delivery_info: { exchange: EXCHANGE, routing_key: ROUTING_KEY },
      priority: 0,
      body_encoding: "base64",
      delivery_tag: randomUUID(),
    },
  });
}
