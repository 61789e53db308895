/** One connection to RabbitMQ and, while wanted, one consumer. Whatever breaks ends the whole session. */
import { toError, type Logger } from "@celery-metrics-exporter/runtime";
import type { ChannelModel, ConsumeMessage } from "amqplib";
import { setTimeout as sleep } from "node:timers/promises";
import type { RabbitmqServer } from "../url/broker-url.ts";
import { closeRabbitmq, connectRabbitmq } from "./connection.ts";
import { QueueLease } from "./lease.ts";
import { RabbitmqConsumer } from "./consumer.ts";
import { countQueue, lookAround, rabbitmqAdvice } from "./advice.ts";
import { BindingKeeper } from "./binding.ts";
import type { Continuity } from "./continuity.ts";
import { QueueLostError, bindQueue, declareQueue, type Binding, type RabbitmqTopology } from "./topology.ts";
import type { Session } from "../source/session-keeper.ts";

export interface RabbitmqSessionOptions {
  readonly topology: RabbitmqTopology;
  /** Asked whenever a consumer starts: how many messages the broker may send ahead of their acknowledgement. */
  readonly prefetch: () => number;
  /** RabbitMQ makes one if it is absent. */
  readonly consumerTag?: string | undefined;
  /** A connection silent for two to three of these is given up. */
  readonly heartbeatSeconds?: number | undefined;
  readonly onDelivery: (delivery: ConsumeMessage, consumer: RabbitmqConsumer) => void;
  readonly continuity: Continuity;
  /** How long a binding may bring nothing before it is repeated. */
  readonly quietMs: number;
  readonly logger: Logger;
}

/** A broker that does not confirm acknowledgements, or does not answer the close of a channel, has this long. */
const CLOSE_TIMEOUT_MS = 5_000;

/**
 * Connects and declares; consumes nothing yet. Aborting `signal` closes what is open, so that a broker which does not
 * answer cannot hold us.
 */
export async function openRabbitmqSession(
  server: RabbitmqServer,
  options: RabbitmqSessionOptions,
  signal: AbortSignal,
): Promise<RabbitmqSession> {
  const { heartbeatSeconds } = options;
  const connection = await connectRabbitmq(server, heartbeatSeconds === undefined ? {} : { heartbeatSeconds });
  // Every error of a connection is followed by its close, or fails the step under way.
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
 * amqplib's own recovery watches the connection only: a channel that the broker closes (delivery timeout, 406) or a consumer it cancels
 * (queue deleted, quorum lost) would stay silent for ever. Here each of them ends the session, and the next one starts from nothing.
 */
export class RabbitmqSession implements Session {
  readonly ended: Promise<Error>;
  readonly #connection: ChannelModel;
  readonly #vhost: string;
  readonly #options: RabbitmqSessionOptions;
  /** The one that consumes, and those cancelled before it that have deliveries in hand. */
  readonly #consumers = new Set<RabbitmqConsumer>();
  #consumer: RabbitmqConsumer | undefined;
  #end: (reason: Error) => void = () => {};
  #open = true;
  #consumingWanted = false;
  #switching: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  readonly #lease: QueueLease;
  readonly #binding: BindingKeeper;

  constructor({ connection, binding, vhost }: OpenedSession, options: RabbitmqSessionOptions) {
    this.#connection = connection;
    this.#vhost = vhost;
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#end = (reason) => {
        this.#open = false;
        this.#lease.stop();
        this.#binding.stop();
        resolve(reason);
      };
    });
    this.#lease = new QueueLease({
      connection,
      topology: options.topology,
      isConsuming: () => this.#consumer !== undefined,
      onLost: (reason) => this.#end(reason),
    });
    this.#binding = this.#keepBinding(binding);
    this.#watch();
  }

  /** Messages delivered and neither done nor given back. */
  get unacked(): number {
    let unacked = 0;
    for (const consumer of this.#consumers) unacked += consumer.unacked;
    return this.#open ? unacked : 0;
  }

  /** Starts or cancels the consumer; the last call decides. Resolves when that is done or the session is over. */
  async setConsuming(wanted: boolean): Promise<void> {
    this.#consumingWanted = wanted;
    this.#switching ??= this.#switch().finally(() => (this.#switching = undefined));
    await this.#switching;
  }

  /** Replaces the consumer, if there is one, by another with the prefetch of now. */
  async renewConsumer(): Promise<void> {
    if (this.#switching !== undefined || this.#consumer === undefined) return;
    void this.setConsuming(false);
    await this.setConsuming(true);
  }

  /** How many consumers our queue has; undefined if the broker does not say. */
  async consumers(): Promise<number | undefined> {
    return (await countQueue(this.#connection, this.#options.topology.queue)).consumers;
  }

  /** What to check when nothing comes. */
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
      // Channels first: a connection's close may overtake acknowledgements that wait in a channel's buffer.
      const closing = Promise.all(Array.from(this.#consumers, (consumer) => consumer.close()));
      const applied = await Promise.race([closing, sleep(CLOSE_TIMEOUT_MS, [false], { ref: false })]);
      if (applied.includes(false)) {
        this.#options.logger.warn("RabbitMQ has not confirmed the last acknowledgements: their messages may come again");
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
          this.#end(new QueueLostError("the broker cancelled our consumer (was the queue deleted?)"));
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
