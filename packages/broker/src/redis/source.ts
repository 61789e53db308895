/** Celery events from Redis pub/sub. Redis stores nothing: messages not read in time, or sent while we are disconnected, are lost. */
import { eventChannels } from "@celery-metrics-exporter/celery";
import type { RedisServer } from "@celery-metrics-exporter/runtime";
import { Arrival } from "../source/arrival.ts";
import { BroadcastBuffer } from "./broadcast-buffer.ts";
import { listenAround, redisAdvice } from "./advice.ts";
import { type RedisSession, type RedisSubscription, openRedisSession } from "./session.ts";
import { redisLabel } from "../url/broker-url.ts";
import { SessionKeeper } from "../source/session-keeper.ts";
import { type Broadcast, type EventSource, type OnMessage, type SourceContext, sourceMetrics } from "../source/source.ts";

export interface RedisOptions extends RedisSubscription {
  /**
   * Limit on buffered messages that the receiver has not processed yet. The socket is read even when it is reached, because Redis disconnects a subscriber
   * that reads too slowly (`client-output-buffer-limit pubsub`).
   */
  readonly bufferMaxBytes: number;
  readonly pingMs?: number;
  /** Silence before a warning says what to check. Default: one minute. */
  readonly silenceMs?: number;
}

export class RedisSource implements EventSource {
  readonly broker = "redis";
  readonly redelivers = false;
  readonly broadcast: Broadcast;
  readonly #keeper: SessionKeeper<RedisServer, RedisSession>;
  readonly #buffer: BroadcastBuffer;
  readonly #arrival: Arrival;
  /** The last connected server. */
  #server: RedisServer | undefined;
  /** When a message was last dropped (`performance.now()`). */
  #droppedAt = 0;
  #onMessage: OnMessage = () => {};

  constructor(servers: readonly RedisServer[], options: RedisOptions, context: SourceContext) {
    const { bufferMaxBytes, pingMs, silenceMs, ...subscription } = options;
    const { logger, health } = context;
    const metrics = sourceMetrics(context.metrics, this.broker, { bufferBytes: () => this.#buffer.bytes, unacked: () => 0 });
    const keptDropped = context.metrics.counter(
      "standby_messages_dropped_total",
      "Messages that a standby dropped because its buffer was full.",
    );
    this.#buffer = new BroadcastBuffer({
      handOver: (message) => this.#onMessage(message),
      maxBytes: bufferMaxBytes,
      onDropped: () => {
        this.#droppedAt = performance.now();
        metrics.dropped();
      },
      onKeptDropped: (messages) => keptDropped.inc(messages),
    });
    this.#arrival = new Arrival({
      advise: () => this.#advise(subscription),
      health: health.component("events"),
      logger,
      ...(silenceMs === undefined ? {} : { silenceMs }),
    });
    const session = {
      subscription,
      onPayload: (payload: Buffer): void => {
        this.#arrival.heard();
        this.#buffer.arrived(payload);
      },
      onHeardUntil: (moment: number): void => this.#buffer.heardUntil(moment),
      ...(pingMs === undefined ? {} : { pingMs }),
    };
    this.#keeper = new SessionKeeper({
      name: "Redis",
      servers,
      open: async (server, signal) => {
        const opened = await openRedisSession(server, session, signal);
        this.#server = server;
        this.#arrival.expect();
        return opened;
      },
      describe: redisLabel,
      onLost: () => {
        this.#arrival.expectNothing();
        metrics.reconnected();
        metrics.gap();
      },
      startupTimeoutMs: context.startupTimeoutMs,
      logger,
      health: health.component("broker"),
    });
    this.broadcast = this.#toBroadcast(redisStream(servers, subscription));
  }

  get waitingSince(): number | undefined {
    return this.#buffer.waitingSince;
  }

  get listeningSince(): number | undefined {
    const { completeSince } = this.broadcast;
    return completeSince === undefined ? undefined : Math.max(completeSince, this.#droppedAt);
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
    this.#arrival.stop();
    await this.#buffer.drain(async () => this.#keeper.session?.unsubscribe());
  }

  async stop(): Promise<void> {
    this.#arrival.stop();
    this.#buffer.pause();
    await this.#keeper.stop();
    this.#buffer.clear();
  }

  async #advise(subscription: RedisSubscription): Promise<string> {
    const server = this.#server;
    return server === undefined ? "" : redisAdvice(server, subscription, await listenAround(server, subscription));
  }

  #toBroadcast(stream: string): Broadcast {
    const buffer = this.#buffer;
    const completeSince = (): number | undefined => {
      const { session } = this.#keeper;
      return session === undefined ? undefined : Math.max(session.subscribedAt, buffer.completeSince);
    };
    return {
      stream,
      get completeSince() {
        return completeSince();
      },
      get safeUntil() {
        return buffer.safeUntil;
      },
      handOverUntil: (moment) => buffer.handOverUntil(moment),
      keep: () => buffer.keep(),
      forget: (before) => buffer.forget(before),
    };
  }
}

/** A name for the stream. Receivers of the same messages use the same name, regardless of the order of their failover lists. */
function redisStream(servers: readonly RedisServer[], subscription: RedisSubscription): string {
  const heard = servers.map((server) => {
    const { patterns, channels } = eventChannels({ ...subscription, db: server.db, sentinel: server.sentinels !== undefined });
    return [redisLabel(server), ...patterns, ...channels].join(" ");
  });
  return heard.toSorted().join(" ");
}
