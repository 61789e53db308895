/** One consumer on a channel of its own, and the acknowledgements of what it was sent. */
import type { Channel, ChannelModel, ConsumeMessage } from "amqplib";
import { AckWindow } from "./ack-window.ts";
import { acknowledgementsApplied } from "./rabbitmq-settling.ts";

export interface RabbitmqConsumerOptions {
  readonly connection: ChannelModel;
  readonly queue: string;
  /** How many messages the broker may send ahead of their acknowledgement. */
  readonly prefetch: number;
  /** RabbitMQ makes one if it is absent. */
  readonly consumerTag?: string | undefined;
  /** `null`: the broker has cancelled the consumer. */
  readonly onDelivery: (delivery: ConsumeMessage | null, consumer: RabbitmqConsumer) => void;
  /** The channel failed or was closed, and not by us. */
  readonly onLost: (reason: Error) => void;
}

/** Without a consumer nobody waits for room in the prefetch: fewer acknowledgements do. */
const IDLE_ACK_MS = 50;

/**
 * A consumer that was cancelled is never started again on its channel. What a quorum queue has on the way to a consumer when it is cancelled
 * never arrives, and stays with the channel until that closes (seen with RabbitMQ 3.10). So the channel of a cancelled consumer closes as
 * soon as all that did arrive is settled, and the queue has the rest again.
 */
export class RabbitmqConsumer {
  /** Resolves when the channel is closed, whoever closed it. */
  readonly closed: Promise<void>;
  readonly #channel: Channel;
  readonly #options: RabbitmqConsumerOptions;
  readonly #window: AckWindow;
  #consumerTag: string | undefined;
  #open = true;
  /** Acknowledgements and returns sent, and not known to be applied by the queue. */
  #underWay = 0;
  #closing: Promise<boolean> | undefined;

  private constructor(channel: Channel, options: RabbitmqConsumerOptions) {
    this.#channel = channel;
    this.#options = options;
    this.#window = new AckWindow(
      (tag) => this.#settle(() => channel.ack(tagged(tag), true)),
      (flush) => (this.#consumerTag === undefined ? setTimeout(flush, IDLE_ACK_MS).unref() : queueMicrotask(flush)),
    );
    this.closed = new Promise((resolve) => channel.once("close", resolve));
    const lost = (fallback: string) => (error?: Error) => this.#lose(error ?? new Error(fallback));
    channel.on("error", lost("channel failed"));
    channel.on("handler-error", lost("message handler failed"));
    // When the connection goes, its channels close first: the connection has the better reason, told in the same turn.
    channel.on("close", () => setImmediate(lost("channel closed")));
  }

  /** @throws {Error} when the broker does not let us consume. */
  static async start(options: RabbitmqConsumerOptions): Promise<RabbitmqConsumer> {
    const { connection, queue, prefetch, consumerTag: wanted, onDelivery } = options;
    const channel = await connection.createChannel();
    const consumer = new RabbitmqConsumer(channel, options);
    // Per consumer, never per channel: RabbitMQ 4.3 refuses `global`.
    await channel.prefetch(prefetch, false);
    const onMessage = (delivery: ConsumeMessage | null): void => {
      if (delivery !== null) consumer.#window.delivered(delivery.fields.deliveryTag);
      onDelivery(delivery, consumer);
    };
    const { consumerTag } = await channel.consume(queue, onMessage, wanted === undefined ? {} : { consumerTag: wanted });
    consumer.#consumerTag = consumerTag;
    return consumer;
  }

  /** Messages delivered and neither done nor given back. */
  get unacked(): number {
    return this.#open ? this.#window.open : 0;
  }

  /** Marks a delivery for the next acknowledgement; nothing when the channel is gone. */
  done(deliveryTag: number): void {
    if (!this.#open) return;
    this.#window.done(deliveryTag);
    this.#closeIfIdle();
  }

  /** Puts a delivery back into the queue, for whoever consumes next. */
  giveBack(deliveryTag: number): void {
    if (!this.#open) return;
    this.#settle(() => this.#channel.nack(tagged(deliveryTag), false, true));
    this.#window.givenBack(deliveryTag);
    this.#closeIfIdle();
  }

  /** Resolves when nothing more arrives. The channel closes by itself when all that has arrived is settled. Not to be called twice. */
  async cancel(): Promise<void> {
    if (this.#consumerTag === undefined) return;
    const sentBefore = this.#underWay;
    await this.#channel.cancel(this.#consumerTag);
    this.#consumerTag = undefined;
    // Answered when the queue has applied the cancellation, and so what was sent before it.
    this.#underWay -= sentBefore;
    this.#closeIfIdle();
  }

  /** Sends the last acknowledgements. Resolves with whether the queue took every one of them in. Safe twice. */
  async close(): Promise<boolean> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<boolean> {
    if (!this.#open) return true;
    this.#window.flush();
    this.#open = false;
    try {
      if (this.#underWay > 0) await acknowledgementsApplied(this.#channel, this.#options.queue);
      await this.#channel.close();
      return true;
    } catch {
      return false;
    }
  }

  #closeIfIdle(): void {
    if (this.#consumerTag === undefined && this.#window.open === 0) void this.close();
  }

  /** A channel that has just been closed throws: that ends the session, and the broker delivers again what was not acknowledged. */
  #settle(send: () => void): void {
    if (!this.#open) return;
    this.#underWay += 1;
    try {
      send();
    } catch (thrown) {
      this.#lose(thrown as Error);
    }
  }

  #lose(reason: Error): void {
    if (this.#closing !== undefined) return;
    this.#open = false;
    this.#options.onLost(reason);
  }
}

/** A message as far as amqplib looks at it to acknowledge it or give it back. */
function tagged(deliveryTag: number): ConsumeMessage {
  return { fields: { deliveryTag } } as ConsumeMessage;
}
