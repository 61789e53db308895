/** One connection to RabbitMQ with one channel and, while wanted, one consumer. Whatever breaks ends the whole session. */
import { toError, type Logger } from "@celery-metrics-exporter/runtime";
import type { Channel, ChannelModel, ConsumeMessage } from "amqplib";
import { setTimeout as sleep } from "node:timers/promises";
import { AckWindow } from "./ack-window.ts";
import type { RabbitmqServer } from "./broker-url.ts";
import { closeRabbitmq, connectRabbitmq } from "./rabbitmq-connection.ts";
import { QueueLease } from "./rabbitmq-lease.ts";
import { acknowledgementsApplied } from "./rabbitmq-settling.ts";
import { countQueue, lookAround, rabbitmqAdvice } from "./rabbitmq-advice.ts";
import { BindingKeeper } from "./rabbitmq-binding.ts";
import type { Continuity } from "./rabbitmq-continuity.ts";
import { QueueLostError, bindQueue, declareQueue, type Binding, type RabbitmqTopology } from "./rabbitmq-topology.ts";
import type { Session } from "./session-keeper.ts";

export interface RabbitmqSessionOptions {
  readonly topology: RabbitmqTopology;
  /** How many messages the broker may send ahead of their acknowledgement. */
  readonly prefetch: number;
  /** RabbitMQ makes one if it is absent. */
  readonly consumerTag?: string | undefined;
  /** A connection silent for two to three of these is given up. */
  readonly heartbeatSeconds?: number | undefined;
  readonly onDelivery: (delivery: ConsumeMessage, session: RabbitmqSession) => void;
  readonly continuity: Continuity;
  /** How long a binding may bring nothing before it is repeated. */
  readonly quietMs: number;
  readonly logger: Logger;
}

/** Without a consumer nobody waits for room in the prefetch: fewer acknowledgements do. */
const IDLE_ACK_MS = 50;

/** A broker that does not confirm acknowledgements, or does not answer the close of a channel, has this long. */
const CLOSE_TIMEOUT_MS = 5_000;

/**
 * Connects, declares and opens the channel; consumes nothing yet. Aborting `signal` closes what is open, so that a broker which does not
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
    const channel = await connection.createChannel();
    const session = new RabbitmqSession({ connection, channel, binding, vhost: server.vhost }, options);
    // Per consumer, never per channel: RabbitMQ 4.3 refuses `global`.
    await channel.prefetch(options.prefetch, false);
    return session;
  } catch (thrown) {
    await closeRabbitmq(connection);
    throw signal.aborted ? new Error("no answer in time") : toError(thrown);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

interface OpenedSession {
  readonly connection: ChannelModel;
  readonly channel: Channel;
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
  readonly #channel: Channel;
  readonly #vhost: string;
  readonly #options: RabbitmqSessionOptions;
  readonly #window: AckWindow;
  #end: (reason: Error) => void = () => {};
  #open = true;
  #consumerTag: string | undefined;
  #consumingWanted = false;
  /** Acknowledgements and returns sent, and not known to be applied by the queue. */
  #underWay = 0;
  #switching: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  readonly #lease: QueueLease;

  readonly #binding: BindingKeeper;

  constructor({ connection, channel, binding, vhost }: OpenedSession, options: RabbitmqSessionOptions) {
    this.#connection = connection;
    this.#channel = channel;
    this.#vhost = vhost;
    this.#options = options;
    this.#window = new AckWindow(
      (tag) => this.#settle(() => channel.ack(tagged(tag), true)),
      (flush) => (this.#consumerTag === undefined ? setTimeout(flush, IDLE_ACK_MS).unref() : queueMicrotask(flush)),
    );
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
      isConsuming: () => this.#consumerTag !== undefined,
      onLost: (reason) => this.#end(reason),
    });
    this.#binding = this.#keepBinding(binding);
    this.#watch();
  }

  /** Messages delivered and neither done nor given back. */
  get unacked(): number {
    return this.#open ? this.#window.open : 0;
  }

  /** Marks a delivery for the next acknowledgement; nothing when the session is over. */
  done(deliveryTag: number): void {
    if (this.#open) this.#window.done(deliveryTag);
  }

  /** Puts deliveries back into the queue, for whoever consumes next. */
  giveBack(deliveryTags: readonly number[]): void {
    for (const tag of deliveryTags) {
      this.#settle(() => this.#channel.nack(tagged(tag), false, true));
      this.#window.givenBack(tag);
    }
  }

  /** Starts or cancels the consumer; the last call decides. Resolves when that is done or the session is over. */
  async setConsuming(wanted: boolean): Promise<void> {
    this.#consumingWanted = wanted;
    this.#switching ??= this.#switch().finally(() => (this.#switching = undefined));
    await this.#switching;
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
      this.#window.flush();
      this.#open = false;
      // The channel first: a connection's close may overtake acknowledgements that wait in the channel's buffer.
      const closed = await Promise.race([this.#closeChannel(), sleep(CLOSE_TIMEOUT_MS, false, { ref: false })]);
      if (!closed) this.#options.logger.warn("RabbitMQ has not confirmed the last acknowledgements: their messages may come again");
    }
    this.#end(new Error("closed by us"));
    await closeRabbitmq(this.#connection);
  }

  /** Whether every acknowledgement was taken in. */
  async #closeChannel(): Promise<boolean> {
    try {
      if (this.#underWay > 0) await acknowledgementsApplied(this.#channel, this.#options.topology.queue);
      await this.#channel.close();
      return true;
    } catch {
      return false;
    }
  }

  async #switch(): Promise<void> {
    try {
      while (this.#open && this.#consumingWanted !== (this.#consumerTag !== undefined)) {
        if (this.#consumerTag === undefined) this.#consumerTag = await this.#consume();
        else {
          const sentBefore = this.#underWay;
          await this.#channel.cancel(this.#consumerTag);
          this.#consumerTag = undefined;
          // Answered when the queue has applied the cancellation, and so what was sent before it.
          this.#underWay -= sentBefore;
        }
      }
    } catch (thrown) {
      this.#end(toError(thrown));
    }
  }

  async #consume(): Promise<string> {
    const { topology, consumerTag: wanted, onDelivery } = this.#options;
    const onMessage = (delivery: ConsumeMessage | null): void => {
      if (delivery === null) {
        this.#end(new QueueLostError("the broker cancelled our consumer (was the queue deleted?)"));
        return;
      }
      this.#binding.heard(delivery.fields.exchange);
      this.#window.delivered(delivery.fields.deliveryTag);
      onDelivery(delivery, this);
    };
    const { consumerTag } = await this.#channel.consume(topology.queue, onMessage, wanted === undefined ? {} : { consumerTag: wanted });
    return consumerTag;
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
    this.#channel.on("error", end("channel failed"));
    this.#channel.on("handler-error", end("message handler failed"));
    // When the connection goes, its channels close first: the connection has the better reason, told in the same turn.
    this.#channel.on("close", () => setImmediate(end("channel closed")));
  }

  /** A channel that has just been closed throws: that ends the session, and the broker delivers again what was not acknowledged. */
  #settle(send: () => void): void {
    if (!this.#open) return;
    this.#underWay += 1;
    try {
      send();
    } catch (thrown) {
      this.#end(toError(thrown));
    }
  }
}

/** A message as far as amqplib looks at it to acknowledge it or give it back. */
function tagged(deliveryTag: number): ConsumeMessage {
  return { fields: { deliveryTag } } as ConsumeMessage;
}
