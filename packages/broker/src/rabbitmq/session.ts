/** One connection to RabbitMQ and, while needed, one consumer. Any failure ends the whole session. */
import { toError, type Logger } from "@celery-metrics-exporter/runtime";
import type { ChannelModel, ConsumeMessage } from "amqplib";
import { setTimeout as sleep } from "node:timers/promises";
import type { RabbitmqServer } from "../url/broker-url.ts";
import { closeRabbitmq, connectRabbitmq } from "./connection.ts";
import { KeepAlive } from "./keep-alive.ts";
import { RabbitmqConsumer } from "./consumer.ts";
import { countQueue, lookAround, rabbitmqAdvice } from "./advice.ts";
import { BindingKeeper, type Continuity } from "./binding.ts";
import { QueueLostError, bindQueue, declareQueue, type Binding, type RabbitmqTopology } from "./topology.ts";
import type { Session } from "../source/session-keeper.ts";
import { isSince, rabbitmqVersion } from "./version.ts";

export interface RabbitmqSessionOptions {
  readonly topology: RabbitmqTopology;
  /** Called when a consumer starts. Returns the number of messages that may be unacknowledged. */
  readonly prefetch: () => number;
  /** If absent, RabbitMQ generates one. */
  readonly consumerTag?: string | undefined;
  /** A connection that is silent for two to three intervals is closed. */
  readonly heartbeatSeconds?: number | undefined;
  readonly onDelivery: (delivery: ConsumeMessage, consumer: RabbitmqConsumer) => void;
  readonly continuity: Continuity;
  /** Silence after which the binding is repeated. */
  readonly quietMs: number;
  readonly logger: Logger;
}

/** Time limit for the broker to confirm acknowledgements and the close of a channel. */
const CLOSE_TIMEOUT_MS = 5_000;
/** Since this release, RabbitMQ cancels a consumer that acknowledges late. Earlier ones close its channel. */
const CANCELS_LATE_CONSUMERS = "4.3";
/** Hardly anybody sets a shorter `consumer_timeout` (the default is 30 minutes). Our acknowledgements take milliseconds while Redis works. */
const MIN_CONSUMER_TIMEOUT_MS = 1_000;

/**
 * Connects and declares, but does not consume yet. Aborting `signal` closes the connection, so that an unresponsive broker cannot block us.
 */
export async function openRabbitmqSession(
  server: RabbitmqServer,
  options: RabbitmqSessionOptions,
  signal: AbortSignal,
): Promise<RabbitmqSession> {
  const { heartbeatSeconds } = options;
  const connection = await connectRabbitmq(server, heartbeatSeconds === undefined ? {} : { heartbeatSeconds });
  // Every connection error is followed by a close, or fails the current step.
  connection.on("error", () => {});
  const abort = (): void => void closeRabbitmq(connection);
  signal.addEventListener("abort", abort, { once: true });
  try {
    if (signal.aborted) throw new Error("no answer in time");
    const { topology, continuity, logger } = options;
    continuity.queueDeclared(await declareQueue(connection, topology, logger));
    const binding = await bindQueue(connection, topology, logger);
    return new RabbitmqSession({ connection, binding, vhost: server.vhost }, options);
  } catch (thrown) {
    options.continuity.sessionFailed(toError(thrown));
    await closeRabbitmq(connection);
    throw signal.aborted ? new Error("no answer in time") : toError(thrown);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

interface OpenedSession {
  readonly connection: ChannelModel;
  readonly binding: Binding;
  readonly vhost: string;
}

/**
 * amqplib's recovery watches only the connection. A channel that the broker closes (delivery timeout, 406) or a consumer that it cancels (queue
 * deleted, quorum lost) would stay silent forever. Here, each of these ends the session, and the next one starts from scratch.
 */
export class RabbitmqSession implements Session {
  readonly ended: Promise<Error>;
  readonly #connection: ChannelModel;
  readonly #vhost: string;
  readonly #options: RabbitmqSessionOptions;
  /** The current consumer, and cancelled ones with deliveries that are not done. */
  readonly #consumers = new Set<RabbitmqConsumer>();
  #consumer: RabbitmqConsumer | undefined;
  #end: (reason: Error) => void = () => {};
  #open = true;
  #consumingWanted = false;
  #switching: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  readonly #keepAlive: KeepAlive;
  readonly #binding: BindingKeeper;

  constructor({ connection, binding, vhost }: OpenedSession, options: RabbitmqSessionOptions) {
    this.#connection = connection;
    this.#vhost = vhost;
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#end = (reason) => {
        this.#open = false;
        this.#keepAlive.stop();
        this.#binding.stop();
        resolve(reason);
      };
    });
    this.#keepAlive = new KeepAlive({
      connection,
      topology: options.topology,
      isConsuming: () => this.#consumer !== undefined,
      onLost: (reason) => this.#end(reason),
    });
    this.#binding = this.#keepBinding(binding);
    this.#watch();
  }

  /** Deliveries neither acknowledged nor returned. */
  get unacked(): number {
    let unacked = 0;
    for (const consumer of this.#consumers) unacked += consumer.unacked;
    return this.#open ? unacked : 0;
  }

  /** Starts or cancels the consumer; the last call wins. Resolves when that is done or the session is over. */
  async setConsuming(wanted: boolean): Promise<void> {
    this.#consumingWanted = wanted;
    this.#switching ??= this.#switch().finally(() => (this.#switching = undefined));
    await this.#switching;
  }

  /** Replaces the consumer, if any, to apply the current prefetch. */
  async renewConsumer(): Promise<void> {
    if (this.#switching !== undefined || this.#consumer === undefined) return;
    void this.setConsuming(false);
    await this.setConsuming(true);
  }

  /** The number of consumers of our queue; undefined if unknown. */
  async consumers(): Promise<number | undefined> {
    return (await countQueue(this.#connection, this.#options.topology.queue)).consumers;
  }

  /** What to check if no message arrives. */
  async advice(): Promise<string> {
    const { topology } = this.#options;
    return rabbitmqAdvice(topology, await lookAround(this.#connection, topology, this.#vhost));
  }

  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#open) {
      this.#open = false;
      // Closes channels first: the close of a connection may overtake acknowledgements in a channel's buffer.
      const closing = Promise.all(Array.from(this.#consumers, (consumer) => consumer.close()));
      const applied = await Promise.race([closing, sleep(CLOSE_TIMEOUT_MS, [false], { ref: false })]);
      if (applied.includes(false)) {
        this.#options.logger.warn("RabbitMQ has not confirmed the last acknowledgements: their messages may be redelivered");
      }
    }
    this.#end(new Error("closed by us"));
    await closeRabbitmq(this.#connection);
  }

  async #switch(): Promise<void> {
    try {
      while (this.#open && this.#consumingWanted !== (this.#consumer !== undefined)) {
        if (this.#consumer === undefined) this.#consumer = await this.#consume();
        else {
          await this.#consumer.cancel();
          this.#consumer = undefined;
        }
      }
    } catch (thrown) {
      this.#end(toError(thrown));
    }
  }

  async #consume(): Promise<RabbitmqConsumer> {
    const { topology, prefetch, consumerTag, onDelivery } = this.#options;
    const consumer = await RabbitmqConsumer.start({
      connection: this.#connection,
      queue: topology.queue,
      prefetch: prefetch(),
      consumerTag,
      onDelivery: (delivery, from) => {
        if (delivery === null) {
          this.#end(cancellation(from, rabbitmqVersion(this.#connection)));
          return;
        }
        this.#binding.heard(delivery.fields.exchange);
        onDelivery(delivery, from);
      },
      onLost: (reason) => this.#end(reason),
    });
    this.#consumers.add(consumer);
    void consumer.closed.then(() => this.#consumers.delete(consumer));
    return consumer;
  }

  #keepBinding(first: Binding): BindingKeeper {
    const { topology, continuity, quietMs, logger } = this.#options;
    if (first.missing === undefined) continuity.bound(first);
    else continuity.unbound(first.missing, true);
    return new BindingKeeper(
      {
        connection: this.#connection,
        topology,
        quietMs,
        logger,
        onBound: (binding) => continuity.bound(binding),
        onUnbound: (reason, exchangeMissing) => continuity.unbound(reason, exchangeMissing),
        onLost: (reason) => this.#end(reason),
      },
      first,
    );
  }

  #watch(): void {
    const end = (fallback: string) => (error?: Error) => this.#end(error ?? new Error(fallback));
    this.#connection.on("error", end("connection failed"));
    this.#connection.on("close", end("connection closed"));
    this.#connection.on("handler-error", end("message handler failed"));
  }
}

/**
 * RabbitMQ cancels the consumers of a deleted queue and, since 4.3, one that acknowledges late, without telling why. If a late one's queue was deleted
 * too, the next session finds it missing, unless somebody else has declared it again by then: that gap is not counted.
 */
function cancellation({ heldMs }: RabbitmqConsumer, version: string | undefined): Error {
  return isSince(CANCELS_LATE_CONSUMERS, version) && heldMs >= MIN_CONSUMER_TIMEOUT_MS
    ? new Error("the broker cancelled our consumer (was the queue deleted, or has an acknowledgement timed out (consumer_timeout)?)")
    : new QueueLostError("the broker cancelled our consumer (was the queue deleted?)");
}
