/** Remote control over Redis (kombu/transport/redis.py). */
import { encodeEnvelope, eventChannels, openEnvelope } from "@celery-metrics-exporter/celery";
import type { RedisServer } from "@celery-metrics-exporter/runtime";
import type { Redis } from "ioredis";
import type { ControlOptions, Transport } from "./control.ts";
import type { Body, RawReply, ReplyTo } from "./message.ts";

/** How long replies of slow workers are kept after the last question. Seconds. */
const REPLY_TTL_SECONDS = 3_600;
/** An element that is not a reply. */
const PLACEHOLDER = "";

/**
 * The workers push replies to a list without an expiry, and create it if it is missing. A killed process would leave it behind forever. So the list
 * always exists before a question is published, with an expiry, and a placeholder at its end keeps it from disappearing when its replies are taken.
 *
 * `reply_to` names the anonymous exchange, which makes kombu push straight to the list. The usual way needs a binding, which could be left behind too.
 */
export class RedisTransport implements Transport {
  readonly replyTo: ReplyTo;
  readonly #redis: Redis;
  readonly #channels: readonly string[];
  readonly #exchange: string;
  readonly #key: string;
  readonly #ttlSeconds: number;

  constructor(redis: Redis, server: RedisServer, options: ControlOptions) {
    const { controlExchange, keyPrefix, fanoutPrefix, deployment, replyTtlSeconds = REPLY_TTL_SECONDS } = options;
    const routingKey = `${deployment}.reply.${controlExchange}.pidbox`;
    this.replyTo = { exchange: "", routingKey };
    this.#redis = redis;
    this.#exchange = `${controlExchange}.pidbox`;
    this.#key = keyPrefix + routingKey;
    this.#ttlSeconds = replyTtlSeconds;
    this.#channels = eventChannels({
      db: server.db,
      exchange: this.#exchange,
      fanoutPrefix,
      // The routing key is empty, so that no name contains it.
      fanoutPatterns: false,
      globalKeyprefix: keyPrefix,
      sentinel: server.sentinels !== undefined,
    }).channels;
  }

  get isOpen(): boolean {
    return this.#redis.status === "ready";
  }

  /** Returns the number of workers that listen. */
  async publish(body: Body): Promise<number> {
    await this.#together([
      ["rpush", this.#key, PLACEHOLDER],
      ["expire", this.#key, this.#ttlSeconds],
    ]);
    const envelope = encodeEnvelope({ ...body, exchange: this.#exchange, routingKey: "" });
    const counts = await Promise.all(this.#channels.map((channel) => this.#redis.publish(channel, envelope)));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** Takes everything except the last placeholder. */
  async take(): Promise<RawReply[]> {
    const [payloads] = await this.#together([
      ["lrange", this.#key, 0, -2],
      ["ltrim", this.#key, -1, -1],
    ]);
    return (payloads as readonly string[]).filter((payload) => payload !== PLACEHOLDER).map(toReply);
  }

  async #together(commands: (string | number)[][]): Promise<unknown[]> {
    const results = (await this.#redis.multi(commands).exec()) ?? [];
    return results.map(([error, reply]) => {
      if (error !== null) throw error;
      return reply;
    });
  }
}

function toReply(payload: string): RawReply {
  const opened = openEnvelope(payload);
  // Read as a body, it is reported as what it is: unreadable.
  return "frame" in opened ? opened : { frame: { body: payload, contentType: undefined }, headers: {} };
}
