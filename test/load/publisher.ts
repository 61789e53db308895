/** Publishes events as Celery does: what a client sends alone, what a worker sends in lists, to RabbitMQ or Redis pub/sub. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import amqp, { type ChannelModel, type ConfirmChannel } from "amqplib";
import { Redis } from "ioredis";
import type { WireEvent } from "./synthetic-task.ts";

/** One message of the broker. */
export interface Frame {
  readonly routingKey: string;
  readonly hostname: string;
  readonly body: Buffer;
}

export interface Publisher {
  /** Resolves when the frames are on their way; `settled` tells when the broker has them. */
  publish(frames: readonly Frame[]): Promise<void>;
  /** Resolves when the broker has taken everything published, however often it was away. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

const EXCHANGE = "celeryev";
/** celery/events/dispatcher.py, `buffer_limit`. */
const MULTI_EVENTS = 24;
const RECONNECT_MS = 200;

export async function connectPublisher(brokerUrl: string): Promise<Publisher> {
  return brokerUrl.startsWith("redis") ? RedisPublisher.connect(brokerUrl) : RabbitmqPublisher.connect(brokerUrl);
}

/** Events of clients are single, those of each worker are lists of up to 24. */
export function toFrames(events: readonly WireEvent[]): Frame[] {
  const single = events.filter(({ type }) => type === "task-sent").map((event) => frame("task.sent", event.hostname, event));
  const byWorker = new Map<string, WireEvent[]>();
  for (const event of events.filter(({ type }) => type !== "task-sent")) {
    const ofWorker = byWorker.get(event.hostname);
    if (ofWorker === undefined) byWorker.set(event.hostname, [event]);
    else ofWorker.push(event);
  }
  const lists = [...byWorker].flatMap(([hostname, ofWorker]) => inLists(ofWorker).map((list) => frame("task.multi", hostname, list)));
  return [...single, ...lists];
}

/** Each event alone, as brokers get them from workers that have little to do. */
export function toSingleFrames(events: readonly WireEvent[]): Frame[] {
  return events.map((event) => frame(event.type.replace("-", "."), event.hostname, event));
}

function inLists(events: readonly WireEvent[]): WireEvent[][] {
  const lists = Math.ceil(events.length / MULTI_EVENTS);
  return Array.from({ length: lists }, (_, index) => events.slice(index * MULTI_EVENTS, (index + 1) * MULTI_EVENTS));
}

function frame(routingKey: string, hostname: string, body: unknown): Frame {
  return { routingKey, hostname, body: Buffer.from(asciiJson(body)) };
}

/** As Celery's frames are (see the corpus): kombu's `json.dumps` escapes whatever is not ASCII. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** What a lost connection leaves unconfirmed is published again: a test must know what the broker was given. */
class RabbitmqPublisher implements Publisher {
  readonly #url: string;
  readonly #unconfirmed = new Set<Frame>();
  #channel: Promise<ConfirmChannel>;
  #connection: ChannelModel | undefined;
  #closed = false;

  private constructor(url: string) {
    this.#url = url;
    this.#channel = this.#open();
  }

  static async connect(url: string): Promise<RabbitmqPublisher> {
    const publisher = new RabbitmqPublisher(url);
    await publisher.#channel;
    return publisher;
  }

  async publish(frames: readonly Frame[]): Promise<void> {
    for (const one of frames) {
      this.#unconfirmed.add(one);
      const channel = await this.#channel;
      if (this.#unconfirmed.has(one) && !this.#send(channel, one)) {
        await drained(channel);
      }
    }
  }

  async settled(): Promise<void> {
    while (this.#unconfirmed.size > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#connection?.close().catch(() => {});
  }

  /** Whether the connection has room for more. */
  #send(channel: ConfirmChannel, one: Frame): boolean {
    const { routingKey, hostname, body } = one;
    const properties = { contentType: "application/json", contentEncoding: "utf-8", headers: { hostname }, deliveryMode: 1, priority: 0 };
    try {
      return channel.publish(EXCHANGE, routingKey, body, properties, (error: unknown) => {
        if (error === null) this.#unconfirmed.delete(one);
      });
    } catch {
      // Closed a moment ago: it goes with the rest when there is a connection again.
      return true;
    }
  }

  async #open(): Promise<ConfirmChannel> {
    for (;;) {
      try {
        const connection = await amqp.connect(this.#url);
        this.#connection = connection;
        connection.on("error", () => {});
        const channel = await connection.createConfirmChannel();
        channel.on("error", () => {});
        connection.once("close", () => {
          if (!this.#closed) this.#channel = this.#open();
        });
        // As kombu declares it.
        await channel.assertExchange(EXCHANGE, "topic", { durable: true });
        for (const one of this.#unconfirmed) this.#send(channel, one);
        return channel;
      } catch (thrown) {
        if (this.#closed) throw thrown;
        await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
      }
    }
  }
}

/** Resolves when the connection has room again, or is gone. */
async function drained(channel: ConfirmChannel): Promise<void> {
  const done = new AbortController();
  const { signal } = done;
  await Promise.race([once(channel, "drain", { signal }), once(channel, "close", { signal })]).finally(() => done.abort());
}

class RedisPublisher implements Publisher {
  readonly #redis: Redis;
  readonly #db: number;

  private constructor(redis: Redis, db: number) {
    this.#redis = redis;
    this.#db = db;
  }

  static connect(url: string): RedisPublisher {
    const redis = new Redis(url, { maxRetriesPerRequest: null });
    return new RedisPublisher(redis, Number(new URL(url).pathname.slice(1) || "0"));
  }

  async publish(frames: readonly Frame[]): Promise<void> {
    const pipeline = this.#redis.pipeline();
    for (const one of frames) pipeline.publish(`/${this.#db}.${EXCHANGE}/${one.routingKey}`, envelope(one));
    const answers = (await pipeline.exec()) ?? [];
    const unheard = answers.filter(([error, listeners]) => error !== null || Number(listeners) === 0).length;
    if (unheard > 0) throw new Error(`${unheard} frames were heard by nobody`);
  }

  settled(): Promise<void> {
    return Promise.resolve();
  }

  async close(): Promise<void> {
    await this.#redis.quit();
  }
}

/** kombu/transport/virtual/base.py, `Channel.prepare_message` and `_inplace_augment_message`. */
function envelope({ routingKey, hostname, body }: Frame): string {
  const properties = {
    delivery_mode: 1,
    delivery_info: { exchange: EXCHANGE, routing_key: routingKey },
    priority: 0,
    body_encoding: "base64",
    delivery_tag: randomUUID(),
  };
  const headers = { hostname };
  return JSON.stringify({
    body: body.toString("base64"),
    "content-encoding": "utf-8",
    "content-type": "application/json",
    headers,
    properties,
  });
}
