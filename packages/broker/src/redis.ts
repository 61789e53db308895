/** Celery events from Redis pub/sub, which stores nothing: what is not read in time, or sent while we are away, is gone. */
import { decodeEnvelope, type Decoded } from "@celery-metrics-exporter/events";
import type { RedisServer } from "@celery-metrics-exporter/runtime";
import { MessageBuffer } from "./message-buffer.ts";
import { openRedisSession, type RedisSession, type RedisSubscription } from "./redis-session.ts";
import { redisLabel } from "./server-label.ts";
import { SessionKeeper } from "./session-keeper.ts";
import type { SourceContext } from "./source-context.ts";
import { sourceMetrics } from "./source-metrics.ts";
import type { EventSource, OnMessage, RawMessage } from "./source.ts";

export interface RedisOptions extends RedisSubscription {
  /**
   * How much is kept of what the receiver has not worked on yet. Redis cuts off a subscriber that reads too slowly
   * (`client-output-buffer-limit pubsub`), so the socket is read at once, whatever happens after.
   */
  readonly bufferMaxBytes: number;
  readonly pingMs?: number;
}

export class RedisSource implements EventSource {
  readonly broker = "redis";
  readonly redelivers = false;
  readonly #keeper: SessionKeeper<RedisServer, RedisSession>;
  readonly #buffer: MessageBuffer<RedisMessage>;
  #onMessage: OnMessage = () => {};

  constructor(servers: readonly RedisServer[], options: RedisOptions, context: SourceContext) {
    const { bufferMaxBytes, pingMs, ...subscription } = options;
    this.#buffer = new MessageBuffer({ handOver: (message) => this.#onMessage(message), maxBytes: bufferMaxBytes });
    const metrics = sourceMetrics(context.metrics, this.broker, { bufferBytes: () => this.#buffer.bytes, unacked: () => 0 });
    const onPayload = (payload: Buffer): void => {
      if (!this.#buffer.push(new RedisMessage(payload))) metrics.dropped();
    };
    this.#keeper = new SessionKeeper({
      name: "Redis",
      servers,
      open: (server, signal) => openRedisSession(server, { subscription, onPayload, ...(pingMs === undefined ? {} : { pingMs }) }, signal),
      describe: redisLabel,
      onLost: () => {
        metrics.reconnected();
        metrics.gap();
      },
      startupTimeoutMs: context.startupTimeoutMs,
      logger: context.logger,
      health: context.health.component("broker"),
    });
  }

  async start(onMessage: OnMessage): Promise<void> {
    this.#onMessage = onMessage;
    await this.#keeper.start();
  }

  pause(): void {
    this.#buffer.pause();
  }

  resume(): void {
    this.#buffer.resume();
  }

  async drain(): Promise<void> {
    await this.#keeper.session?.unsubscribe();
    await this.#buffer.empty();
  }

  async stop(): Promise<void> {
    this.#buffer.pause();
    await this.#keeper.stop();
    this.#buffer.clear();
  }
}

class RedisMessage implements RawMessage {
  readonly #payload: Buffer;

  constructor(payload: Buffer) {
    this.#payload = payload;
  }

  get bytes(): number {
    return this.#payload.length;
  }

  decode(): Decoded {
    return decodeEnvelope(this.#payload);
  }

  /** Pub/sub keeps nothing that could be acknowledged. */
  ack(): void {}
}
