/** Publishes events as Celery does, to RabbitMQ or Redis pub/sub: a client's events singly, a worker's in lists. */
import { encodeEnvelope } from "@celery-metrics-exporter/celery";
import amqp, { type ChannelModel, type ConfirmChannel } from "amqplib";
import { Redis } from "ioredis";
import { once } from "node:events";

/** An event in its form on the wire. */
export interface WireEvent {
  readonly type: string;
  readonly hostname: string;
  /** Unix time in seconds. */
  readonly timestamp: number;
  readonly uuid: string;
  readonly [field: string]: unknown;
}

/** One message of the broker. */
export interface Frame {
  readonly routingKey: string;
  readonly hostname: string;
  readonly body: Buffer;
}

export interface Publisher {
  /** Resolves when the frames are on their way; `confirmed` resolves when the broker has them. */
  publish(frames: readonly Frame[]): Promise<void>;
  /** Resolves when the broker has everything published, however often it was away, or when the publisher is closed. */
  confirmed(): Promise<void>;
  close(): Promise<void>;
}

const EXCHANGE = "celeryev";
/** The `buffer_limit` of celery/events/dispatcher.py. */
const MULTI_EVENTS = 24;
const RECONNECT_MS = 200;

/** Connects to a broker of the tests. On Redis, which stores nothing, `publish` rejects if a frame reached no subscriber. */
export async function connectPublisher(brokerUrl: string): Promise<Publisher> {
  if (!brokerUrl.startsWith("redis")) return publishToRabbitmq(() => amqp.connect(brokerUrl));
  const db = Number(new URL(brokerUrl).pathname.slice(1) || "0");
  return publishToRedis(new Redis(brokerUrl, { maxRetriesPerRequest: null }), db, { mustBeHeard: true });
}

/** @param connect called again whenever the connection is lost. @throws what it throws the first time. */
export function publishToRabbitmq(connect: () => Promise<ChannelModel>): Promise<Publisher> {
  return RabbitmqPublisher.open(connect);
}

/** @param db the number in the names of Celery's channels. */
export function publishToRedis(redis: Redis, db: number, { mustBeHeard }: { readonly mustBeHeard: boolean }): Publisher {
  return new RedisPublisher(redis, db, mustBeHeard);
}

/** Events of clients are sent singly, those of each worker in lists of up to 24. */
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

/** Each event singly, as workers with little to do send them. */
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

/** Like Celery's frames (see the corpus): kombu's `json.dumps` escapes everything that is not ASCII. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Publishes unconfirmed frames of a lost connection again, because a test must know what the broker received. */
class RabbitmqPublisher implements Publisher {
  readonly #connect: () => Promise<ChannelModel>;
  readonly #unconfirmed = new Set<Frame>();
  #channel: Promise<ConfirmChannel>;
  #connection: ChannelModel | undefined;
  #closed = false;

  private constructor(connect: () => Promise<ChannelModel>) {
    this.#connect = connect;
    this.#channel = this.#open();
  }

  static async open(connect: () => Promise<ChannelModel>): Promise<RabbitmqPublisher> {
    const publisher = new RabbitmqPublisher(connect);
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

  async confirmed(): Promise<void> {
    while (this.#unconfirmed.size > 0 && !this.#closed) await new Promise((resolve) => setTimeout(resolve, 20));
  }

  async close(): Promise<void> {
    this.#closed = true;
    const connection = this.#connection;
    if (connection === undefined) return;
    // A connection that is lost meanwhile never answers.
    const done = new AbortController();
    const gone = once(connection, "close", { signal: done.signal });
    await Promise.race([connection.close(), gone]).catch(() => {});
    done.abort();
    gone.catch(() => {});
  }

  /** Whether the connection can take more. */
  #send(channel: ConfirmChannel, one: Frame): boolean {
    const { routingKey, hostname, body } = one;
    const properties = { contentType: "application/json", contentEncoding: "utf-8", headers: { hostname }, deliveryMode: 1, priority: 0 };
    try {
      return channel.publish(EXCHANGE, routingKey, body, properties, (error: unknown) => {
        if (error === null) this.#unconfirmed.delete(one);
      });
    } catch {
      // It was closed a moment ago; the frame is sent with the others on the next connection.
      return true;
    }
  }

  async #open(): Promise<ConfirmChannel> {
    const connection = await this.#connect();
    connection.on("error", () => {});
    if (this.#closed) await connection.close();
    this.#connection = connection;
    const channel = await connection.createConfirmChannel();
    channel.on("error", () => {});
    // As kombu declares it.
    await channel.assertExchange(EXCHANGE, "topic", { durable: true });
    connection.once("close", () => {
      if (this.#closed) return;
      this.#channel = this.#reopen();
      // `publish` reports it.
      this.#channel.catch(() => {});
    });
    for (const one of this.#unconfirmed) this.#send(channel, one);
    return channel;
  }

  async #reopen(): Promise<ConfirmChannel> {
    for (;;) {
      try {
        return await this.#open();
      } catch (thrown) {
        if (this.#closed) throw thrown;
        await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
      }
    }
  }
}

/** Resolves when the connection can take more, or is lost. */
async function drained(channel: ConfirmChannel): Promise<void> {
  const done = new AbortController();
  const { signal } = done;
  await Promise.race([once(channel, "drain", { signal }), once(channel, "close", { signal })]).finally(() => done.abort());
}

class RedisPublisher implements Publisher {
  readonly #redis: Redis;
  readonly #db: number;
  readonly #mustBeHeard: boolean;

  constructor(redis: Redis, db: number, mustBeHeard: boolean) {
    this.#redis = redis;
    this.#db = db;
    this.#mustBeHeard = mustBeHeard;
  }

  async publish(frames: readonly Frame[]): Promise<void> {
    const pipeline = this.#redis.pipeline();
    for (const { routingKey, hostname, body } of frames)
      pipeline.publish(`/${this.#db}.${EXCHANGE}/${routingKey}`, encodeEnvelope({ body, routingKey, headers: { hostname } }));
    const answers = (await pipeline.exec()) ?? [];
    const failure = answers.find(([error]) => error !== null)?.[0];
    if (failure instanceof Error) throw failure;
    const unheard = answers.filter(([, listeners]) => Number(listeners) === 0).length;
    if (this.#mustBeHeard && unheard > 0) throw new Error(`${unheard} frames had no subscriber`);
  }

  confirmed(): Promise<void> {
    return Promise.resolve();
  }

  async close(): Promise<void> {
    await this.#redis.quit();
  }
}
