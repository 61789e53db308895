/** Celery events from RabbitMQ, through our own queue on Celery's event exchange. Each message is acknowledged. */
import { type Decoded, decodeFrame } from "@celery-metrics-exporter/celery";
import type { ConsumeMessage } from "amqplib";
import { setTimeout as sleep } from "node:timers/promises";
import { Arrival } from "../source/arrival.ts";
import { type RabbitmqServer, rabbitmqLabel } from "../url/broker-url.ts";
import { MessageBuffer } from "../source/message-buffer.ts";
import { Prefetch, type RabbitmqConsumer } from "./consumer.ts";
import { Continuity, QUIET_MS } from "./binding.ts";
import { type RabbitmqSession, openRabbitmqSession } from "./session.ts";
import { type RabbitmqTopology, refusal } from "./topology.ts";
import { SessionKeeper } from "../source/session-keeper.ts";
import { type EventSource, type OnMessage, type RawMessage, type SourceContext, sourceMetrics } from "../source/source.ts";

export interface RabbitmqOptions extends RabbitmqTopology {
  /** Limit on unacknowledged messages. */
  readonly prefetch: number;
  /**
   * Limit on unacknowledged bytes, estimated from the mean size of recent messages. It also limits the buffer while the receiver is paused: messages
   * beyond it are returned. Default: unlimited.
   */
  readonly prefetchBytes?: number;
  /** Identifies our deployment in the list of the queue's consumers. */
  readonly consumerTag?: string;
  /** Length of a pause after which the consumer is cancelled and buffered messages are returned, so that no message is held for minutes. */
  readonly longPauseMs?: number;
  readonly heartbeatSeconds?: number;
  /** Silence before a warning says what to check. Default: one minute. */
  readonly silenceMs?: number;
  /** Silence after which our queue's binding is repeated. Default: 8 s. */
  readonly quietMs?: number;
}

const LONG_PAUSE_MS = 5_000;
/** More messages than one read of the socket (64 KiB, some hundred single events): the backlog should stay in RabbitMQ, not in our heap. */
const MESSAGES_PER_TURN = 512;
/** Time limit for a drain to hand over the delivered messages, which usually takes a moment. The rest is returned. */
const HAND_OVER_MS = 5_000;

export class RabbitmqSource implements EventSource {
  readonly broker = "rabbitmq";
  readonly redelivers = true;
  readonly #keeper: SessionKeeper<RabbitmqServer, RabbitmqSession>;
  readonly #buffer: MessageBuffer<RabbitmqMessage>;
  readonly #prefetch: Prefetch;
  readonly #prefetchBytes: number;
  readonly #longPauseMs: number;
  readonly #arrival: Arrival;
  readonly #continuity: Continuity;
  /** The session that is opening or open. */
  #session: RabbitmqSession | undefined;
  /** When the session opened, or the last gap ended (`performance.now()`). */
  #listeningSince = 0;
  #onMessage: OnMessage = () => {};
  #longPause: NodeJS.Timeout | undefined;
  /** Whether a session should consume. */
  #consuming = true;
  #paused = false;
  #drained = false;
  /** Whether a message did not fit. Consuming stops until there is room. */
  #overflowed = false;

  constructor(servers: readonly RabbitmqServer[], options: RabbitmqOptions, context: SourceContext) {
    const {
      prefetch,
      prefetchBytes = Number.POSITIVE_INFINITY,
      consumerTag,
      longPauseMs = LONG_PAUSE_MS,
      heartbeatSeconds,
      silenceMs,
      ...others
    } = options;
    const { quietMs = QUIET_MS, ...topology } = others;
    const { logger, health } = context;
    this.#longPauseMs = longPauseMs;
    this.#prefetchBytes = prefetchBytes;
    this.#prefetch = new Prefetch({ messages: prefetch, bytes: prefetchBytes });
    this.#buffer = new MessageBuffer({
      handOver: (message) => {
        this.#onMessage(message);
        if (this.#overflowed && this.#hasRoom) this.#consume();
      },
      maxBytes: prefetchBytes,
      messagesPerTurn: MESSAGES_PER_TURN,
    });
    const metrics = sourceMetrics(context.metrics, this.broker, {
      bufferBytes: () => this.#buffer.bytes,
      unacked: () => this.#keeper.session?.unacked ?? 0,
    });
    this.#arrival = new Arrival({
      advise: async () => (await this.#session?.advice()) ?? "",
      health: health.component("events"),
      logger,
      ...(silenceMs === undefined ? {} : { silenceMs }),
    });
    const gap = (): void => {
      this.#listeningSince = performance.now();
      metrics.gap();
    };
    this.#continuity = new Continuity({ topology, arrival: this.#arrival, gap, logger });
    const onDelivery = (delivery: ConsumeMessage, consumer: RabbitmqConsumer): void => {
      this.#continuity.heard();
      if (delivery.fields.redelivered) metrics.redelivered();
      this.#take(new RabbitmqMessage(delivery, consumer));
    };
    const sessionOptions = {
      topology,
      prefetch: () => this.#prefetch.begin(),
      consumerTag,
      heartbeatSeconds,
      onDelivery,
      continuity: this.#continuity,
      quietMs,
      logger,
    };
    this.#keeper = new SessionKeeper({
      name: "RabbitMQ",
      servers,
      open: async (server, signal) => {
        const session = await openRabbitmqSession(server, sessionOptions, signal);
        // The broker redelivers the messages of the lost session. Until now, the receiver could process them without the delay of the outage.
        this.#buffer.clear();
        this.#session = session;
        await session.setConsuming(this.#consuming);
        // A session that has already ended, for example because we may not read the queue, counts as not opened.
        const failure = await Promise.race([session.ended, Promise.resolve(undefined)]);
        if (failure === undefined) {
          if (this.#consuming && !this.#paused) this.#arrival.expect();
          this.#listeningSince = performance.now();
          return session;
        }
        await session.close();
        throw refusal(failure, `cannot read queue ${topology.queue}`);
      },
      describe: rabbitmqLabel,
      onLost: (reason) => {
        metrics.reconnected();
        this.#arrival.expectNothing();
        this.#continuity.sessionFailed(reason);
      },
      startupTimeoutMs: context.startupTimeoutMs,
      logger,
      health: health.component("broker"),
    });
  }

  get waitingSince(): number | undefined {
    return this.#buffer.oldest?.at;
  }

  get listeningSince(): number | undefined {
    return this.#keeper.session === undefined || this.#arrival.isBlocked ? undefined : this.#listeningSince;
  }

  async start(onMessage: OnMessage): Promise<void> {
    this.#onMessage = onMessage;
    await this.#keeper.start();
  }

  async consumers(): Promise<number | undefined> {
    return this.#keeper.session?.consumers().catch(() => undefined);
  }

  pause(): void {
    this.#paused = true;
    this.#arrival.expectNothing();
    this.#buffer.pause();
    if (!this.#drained) this.#longPause ??= setTimeout(() => void this.#stopConsuming(), this.#longPauseMs);
  }

  resume(): void {
    this.#buffer.resume();
    this.#paused = false;
    if (this.#drained) return;
    if (this.#keeper.session !== undefined) this.#arrival.expect();
    clearTimeout(this.#longPause);
    this.#longPause = undefined;
    if (this.#hasRoom) this.#consume();
  }

  async drain(): Promise<void> {
    this.#drained = true;
    clearTimeout(this.#longPause);
    this.#consuming = false;
    this.#arrival.stop();
    await this.#session?.setConsuming(false);
    await Promise.race([this.#buffer.empty(), sleep(HAND_OVER_MS, undefined, { ref: false })]);
    this.#buffer.pause();
    await this.#stopConsuming();
  }

  async stop(): Promise<void> {
    clearTimeout(this.#longPause);
    this.#arrival.stop();
    this.#buffer.pause();
    this.#buffer.clear();
    await this.#keeper.stop();
  }

  /** Whether the buffer has room for another consumer's messages. */
  get #hasRoom(): boolean {
    return this.#buffer.bytes <= this.#prefetchBytes / 2;
  }

  #consume(): void {
    this.#overflowed = false;
    if (this.#paused || this.#drained) return;
    this.#consuming = true;
    void this.#session?.setConsuming(true);
  }

  /** Buffers a message. Messages larger than the prefetch assumed may not fit: they are returned, and the next consumer gets a smaller prefetch. */
  #take(message: RabbitmqMessage): void {
    const renew = this.#prefetch.arrived(message.bytes);
    if (this.#buffer.push(message)) {
      if (renew && this.#consuming) void this.#session?.renewConsumer();
      return;
    }
    this.#overflowed = true;
    this.#prefetch.overflowed(this.#buffer.size, this.#buffer.bytes);
    this.#consuming = false;
    message.letGoOfBody();
    // Returns the message only after the cancellation: otherwise the broker would redeliver it at once.
    void this.#session?.setConsuming(false).then(() => message.giveBack());
  }

  async #stopConsuming(): Promise<void> {
    this.#consuming = false;
    await this.#session?.setConsuming(false);
    // Messages arrived until the broker confirmed. Meanwhile the receiver may have resumed.
    if (this.#consuming) return;
    for (const message of this.#buffer.clear()) message.giveBack();
  }
}

const NOTHING = Buffer.alloc(0);

/** The needed parts of a delivery. amqplib's object is as large as an event, and thousands of deliveries wait for their acknowledgement. */
class RabbitmqMessage implements RawMessage {
  /** When it arrived (`performance.now()`). */
  readonly at = performance.now();
  readonly bytes: number;
  readonly #deliveryTag: number;
  #body: Buffer;
  readonly #contentType: string | undefined;
  readonly #contentEncoding: string | undefined;
  readonly #consumer: RabbitmqConsumer;

  constructor({ content, fields, properties }: ConsumeMessage, consumer: RabbitmqConsumer) {
    this.#deliveryTag = fields.deliveryTag;
    this.bytes = content.length;
    this.#body = content;
    this.#contentType = properties.contentType as string | undefined;
    this.#contentEncoding = properties.contentEncoding as string | undefined;
    this.#consumer = consumer;
  }

  decode(): Decoded {
    const body = this.#body;
    this.#body = NOTHING;
    return decodeFrame({ body, contentType: this.#contentType, contentEncoding: this.#contentEncoding });
  }

  ack(): void {
    this.#consumer.done(this.#deliveryTag);
  }

  /** Frees the body of a message that will be returned. */
  letGoOfBody(): void {
    this.#body = NOTHING;
  }

  /** Returns the message to the queue. */
  giveBack(): void {
    this.#consumer.giveBack(this.#deliveryTag);
  }
}
