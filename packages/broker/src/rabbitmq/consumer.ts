/** One consumer on a channel of its own, and the acknowledgements of what it was sent. */
import type { Channel, ChannelModel, ConsumeMessage } from "amqplib";

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

// Waits until a queue has taken in the acknowledgements of a channel, so that closing the channel loses none.

/**
 * Resolves when the queue has applied every acknowledgement sent on `channel` so far. Delivers at most one message, which nobody looks at:
 * the channel is to be closed next, and that puts it back, as one that was delivered before.
 *
 * AMQP has no answer to an acknowledgement, and a quorum queue takes them in behind the channel: while 32 are under way, the channel keeps
 * further ones to itself, and forgets those when it closes (RabbitMQ's rabbit_fifo_client.erl, `soft_limit` and `unsent_commands`; issue
 * 10327). Starting and cancelling a consumer, however, are commands in the same log, answered when they are applied. The first answer so
 * comes after all that was under way, whereupon the channel sends what it had kept; the second comes after that too.
 *
 * @throws {Error} when the channel closes meanwhile. A broker that does not answer is waited for.
 */
async function acknowledgementsApplied(channel: Channel, queue: string): Promise<void> {
  await channel.prefetch(1, false);
  const { consumerTag } = await channel.consume(queue, () => {});
  await channel.cancel(consumerTag);
}

// Which deliveries of one AMQP channel are settled, so that one `basic.ack` can acknowledge many.

/**
 * Delivery tags of a channel count up from 1. A batch settles its deliveries when it is stored, in any order of batches; the broker is told
 * once per turn, of the highest tag below which all are settled (`multiple`). Frames are many, acknowledgements few.
 */
export class AckWindow {
  readonly #ack: (tag: number) => void;
  readonly #schedule: (flush: () => void) => void;
  /** Every tag up to this one is settled. */
  #settled = 0;
  /** The highest tag at or below `#settled` that may be acknowledged: the broker refuses the tag of a message that was given back. */
  #ackable = 0;
  #acked = 0;
  #delivered = 0;
  #scheduled = false;
  /** Settled beyond a gap: true for done, false for given back. */
  readonly #ahead = new Map<number, boolean>();

  /**
   * @param ack acknowledges every delivery up to this tag.
   * @param schedule decides when to tell the broker of what is settled meanwhile. Default: at the end of the turn.
   */
  constructor(ack: (tag: number) => void, schedule: (flush: () => void) => void = queueMicrotask) {
    this.#ack = ack;
    this.#schedule = schedule;
  }

  /** Deliveries that are not settled yet. */
  get open(): number {
    return this.#delivered - this.#settled - this.#ahead.size;
  }

  delivered(tag: number): void {
    this.#delivered = tag;
  }

  /** The delivery is dealt with: to be acknowledged. */
  done(tag: number): void {
    this.#settle(tag, true);
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#schedule(() => this.flush());
  }

  /** The delivery went back to its queue: the broker has been told already. */
  givenBack(tag: number): void {
    this.#settle(tag, false);
  }

  /** Tells the broker now. */
  flush(): void {
    this.#scheduled = false;
    if (this.#ackable <= this.#acked) return;
    this.#acked = this.#ackable;
    this.#ack(this.#ackable);
  }

  #settle(tag: number, done: boolean): void {
    if (tag !== this.#settled + 1) {
      if (tag > this.#settled) this.#ahead.set(tag, done);
      return;
    }
    this.#advance(tag, done);
    for (let next = this.#ahead.get(tag + 1); next !== undefined; next = this.#ahead.get(this.#settled + 1)) {
      this.#ahead.delete(this.#settled + 1);
      this.#advance(this.#settled + 1, next);
    }
  }

  #advance(tag: number, done: boolean): void {
    this.#settled = tag;
    if (done) this.#ackable = tag;
  }
}

/** How many messages the broker may send ahead, so that their bytes stay bounded too. */

export interface PrefetchOptions {
  /** Most messages that the broker may send ahead of their acknowledgement. */
  readonly messages: number;
  /** Most bytes that these are to have, by the mean size of what came last. */
  readonly bytes: number;
}

/** The mean is that of about this many messages. */
const REMEMBERED = 64;
/** A consumer gets this many messages before it is replaced by one with another prefetch: each change costs two round trips. */
const WORTH_A_CHANGE = 256;

/**
 * AMQP bounds a consumer by messages; RabbitMQ does not implement `prefetch_size`, and a consumer's prefetch cannot be changed. So a consumer
 * starts with the number of messages whose bytes fit, and another takes its place when that number would be twice or half as large by now.
 */
export class Prefetch {
  readonly #options: PrefetchOptions;
  #meanBytes = 0;
  #current: number;
  #arrived = 0;

  constructor(options: PrefetchOptions) {
    this.#options = options;
    this.#current = options.messages;
  }

  /** A consumer starts. @returns its prefetch, in messages. */
  begin(): number {
    this.#current = this.#fitting();
    this.#arrived = 0;
    return this.#current;
  }

  /** A message came. @returns whether another prefetch would fit much better. */
  arrived(bytes: number): boolean {
    this.#meanBytes += (bytes - this.#meanBytes) / REMEMBERED;
    this.#arrived += 1;
    if (this.#arrived < WORTH_A_CHANGE) return false;
    const fitting = this.#fitting();
    return fitting >= 2 * this.#current || this.#current >= 2 * fitting;
  }

  /** So many messages of so many bytes in all were too much. */
  overflowed(messages: number, bytes: number): void {
    this.#meanBytes = Math.max(this.#meanBytes, bytes / Math.max(1, messages));
  }

  #fitting(): number {
    const { messages, bytes } = this.#options;
    return Math.max(1, Math.min(messages, Math.floor(bytes / Math.max(1, this.#meanBytes))));
  }
}
