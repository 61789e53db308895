/** Celery events from RabbitMQ: a queue of our own on Celery's event exchange, acknowledged message by message. */
import { type Decoded, decodeFrame } from "@celery-metrics-exporter/celery";
import type { ConsumeMessage } from "amqplib";
import { setTimeout as sleep } from "node:timers/promises";
import { Arrival } from "../source/arrival.ts";
import { type RabbitmqServer, rabbitmqLabel } from "../url/broker-url.ts";
import { MessageBuffer } from "../source/message-buffer.ts";
import { Prefetch, type RabbitmqConsumer } from "./consumer.ts";
import { Continuity } from "./continuity.ts";
import { QUIET_MS } from "./binding.ts";
import { type RabbitmqSession, openRabbitmqSession } from "./session.ts";
import { type RabbitmqTopology, refusal } from "./topology.ts";
import { SessionKeeper } from "../source/session-keeper.ts";
import { type EventSource, type OnMessage, type RawMessage, type SourceContext, sourceMetrics } from "../source/source.ts";

export interface RabbitmqOptions extends RabbitmqTopology {
  /** How many messages the broker may send ahead of their acknowledgement. */
  readonly prefetch: number;
  /**
   * How many bytes it may send ahead, by the mean size of what came last. No more are kept while the receiver takes nothing: what comes on top
   * is given back. Default: no bound.
   */
  readonly prefetchBytes?: number;
  /** Names our deployment to whoever lists the queue's consumers. */
  readonly consumerTag?: string;
  /** A pause this long cancels the consumer and gives back what was not handed over, so that no message is held for minutes. */
  readonly longPauseMs?: number;
  readonly heartbeatSeconds?: number;
  /** How long nothing may come before a warning says what to check. Default one minute. */
  readonly silenceMs?: number;
  /** How long our queue's binding may bring nothing before it is repeated; in any case after twice as long. Default 8 s. */
  readonly quietMs?: number;
}

const LONG_PAUSE_MS = 5_000;
/** More than one reading of the socket brings (64 KiB, some hundred single events): what waits is better kept by RabbitMQ than in our heap. */
const MESSAGES_PER_TURN = 512;
/** How long a drain lets the receiver take what has been delivered. Most of it has gone in a moment; what cannot go is given back. */
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
  /** The one being opened, or that works. */
  #session: RabbitmqSession | undefined;
  #onMessage: OnMessage = () => {};
  #longPause: NodeJS.Timeout | undefined;
  /** Whether a session is to consume. */
  #consuming = true;
  #paused = false;
  #drained = false;
  /** A message did not fit: nothing is consumed until there is room. */
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
    this.#continuity = new Continuity({ topology, arrival: this.#arrival, gap: () => metrics.gap(), logger });
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
        // What was in hand when the last session was lost comes again. Until now it could still be taken, and was not late by the outage.
        this.#buffer.clear();
        this.#session = session;
        await session.setConsuming(this.#consuming);
        // A session that is over already, without the right to read for one, has not been opened.
        const failure = await Promise.race([session.ended, Promise.resolve(undefined)]);
        if (failure === undefined) {
          if (this.#consuming && !this.#paused) this.#arrival.expect();
          return session;
        }
        await session.close();
        throw refusal(failure, `cannot read queue ${topology.queue}`);
      },
      describe: rabbitmqLabel,
      onLost: (reason) => {
        metrics.reconnected();
        this.#arrival.expectNothing();
        this.#continuity.sessionLost(reason);
      },
      startupTimeoutMs: context.startupTimeoutMs,
      logger,
      health: health.component("broker"),
    });
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

  /** Whether what a consumer brings fits again. */
  get #hasRoom(): boolean {
    return this.#buffer.bytes <= this.#prefetchBytes / 2;
  }

  #consume(): void {
    this.#overflowed = false;
    if (this.#paused || this.#drained) return;
    this.#consuming = true;
    void this.#session?.setConsuming(true);
  }

  /** Messages larger than those that the prefetch was made for may not all fit: these go back, and the next consumer gets fewer at a time. */
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
    // Not before the consumer is gone: the broker would send the message again at once.
    void this.#session?.setConsuming(false).then(() => message.giveBack());
  }

  async #stopConsuming(): Promise<void> {
    this.#consuming = false;
    await this.#session?.setConsuming(false);
    // Messages were still arriving until the broker confirmed; meanwhile someone may have resumed.
    if (this.#consuming) return;
    for (const message of this.#buffer.clear()) message.giveBack();
  }
}

const NOTHING = Buffer.alloc(0);

/** Keeps what is needed of a delivery: amqplib's object for it is as large as an event, and thousands of them wait for their acknowledgement. */
class RabbitmqMessage implements RawMessage {
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

  /** For one that is to be given back later. */
  letGoOfBody(): void {
    this.#body = NOTHING;
  }

  /** Puts the message back into the queue. */
  giveBack(): void {
    this.#consumer.giveBack(this.#deliveryTag);
  }
}
