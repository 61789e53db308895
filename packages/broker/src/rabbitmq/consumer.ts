/** One consumer on a separate channel, and the acknowledgements of its deliveries. */
import type { Channel, ChannelModel, ConsumeMessage } from "amqplib";

export interface RabbitmqConsumerOptions {
  readonly connection: ChannelModel;
  readonly queue: string;
  /** Limit on unacknowledged messages. */
  readonly prefetch: number;
  /** If absent, RabbitMQ generates one. */
  readonly consumerTag?: string | undefined;
  /** `null`: the broker cancelled the consumer. */
  readonly onDelivery: (delivery: ConsumeMessage | null, consumer: RabbitmqConsumer) => void;
  /** The channel failed or was closed by the broker. */
  readonly onLost: (reason: Error) => void;
}

/** Delay of acknowledgements after the consumer is cancelled: nothing waits for room in the prefetch, so fewer acknowledgements suffice. */
const IDLE_ACK_MS = 50;

/**
 * A cancelled consumer is never restarted on its channel. Messages that a quorum queue is sending to a consumer when it is cancelled never arrive, and
 * stay assigned to the channel until it closes (seen with RabbitMQ 3.10). So the channel of a cancelled consumer closes as soon as all its deliveries
 * are acknowledged or returned, which puts the other messages back into the queue.
 */
export class RabbitmqConsumer {
  /** Resolves when the channel is closed, by either side. */
  readonly closed: Promise<void>;
  readonly #channel: Channel;
  readonly #options: RabbitmqConsumerOptions;
  readonly #window: AckWindow;
  #consumerTag: string | undefined;
  #open = true;
  /** Acknowledgements and returns that were sent, but that the queue is not known to have applied. */
  #underWay = 0;
  #closing: Promise<boolean> | undefined;

  private constructor(channel: Channel, options: RabbitmqConsumerOptions) {
    this.#channel = channel;
    this.#options = options;
    this.#window = new AckWindow(
      (tag) => this.#answer(() => channel.ack(tagged(tag), true)),
      (flush) => (this.#consumerTag === undefined ? setTimeout(flush, IDLE_ACK_MS).unref() : queueMicrotask(flush)),
    );
    this.closed = new Promise((resolve) => channel.once("close", resolve));
    const lost = (fallback: string) => (error?: Error) => this.#lose(error ?? new Error(fallback));
    channel.on("error", lost("channel failed"));
    channel.on("handler-error", lost("message handler failed"));
    // A lost connection closes its channels first. Its own event follows in the same turn, with a better reason.
    channel.on("close", () => setImmediate(lost("channel closed")));
  }

  /** @throws {Error} if the broker refuses. */
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

  /** Deliveries neither acknowledged nor returned. */
  get unacked(): number {
    return this.#open ? this.#window.open : 0;
  }

  /** For how long at least the oldest delivery has been neither acknowledged nor returned. 0 if there is none. */
  get heldMs(): number {
    return this.#window.heldMs;
  }

  /** Marks a delivery for the next acknowledgement. Does nothing if the channel is gone. */
  done(deliveryTag: number): void {
    if (!this.#open) return;
    this.#window.done(deliveryTag);
    this.#closeIfIdle();
  }

  /** Returns a delivery to the queue, for the next consumer. */
  giveBack(deliveryTag: number): void {
    if (!this.#open) return;
    this.#answer(() => this.#channel.nack(tagged(deliveryTag), false, true));
    this.#window.givenBack(deliveryTag);
    this.#closeIfIdle();
  }

  /** Resolves when nothing more arrives. The channel closes by itself once all deliveries are acknowledged or returned. Do not call twice. */
  async cancel(): Promise<void> {
    if (this.#consumerTag === undefined) return;
    const sentBefore = this.#underWay;
    await this.#channel.cancel(this.#consumerTag);
    this.#consumerTag = undefined;
    // The answer comes after the queue has applied the cancellation, and therefore everything sent before it.
    this.#underWay -= sentBefore;
    this.#closeIfIdle();
  }

  /** Sends the last acknowledgements. Resolves with whether the queue applied all of them. Idempotent. */
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

  /** A channel that was just closed throws. That ends the session, and the broker redelivers unacknowledged messages. */
  #answer(send: () => void): void {
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

/** The part of a message that amqplib reads to acknowledge or return it. */
function tagged(deliveryTag: number): ConsumeMessage {
  return { fields: { deliveryTag } } as ConsumeMessage;
}

/**
 * Resolves when the queue has applied every acknowledgement sent on `channel` so far, so that closing the channel loses none. At most one message is
 * delivered and ignored: closing the channel next returns it to the queue, marked as redelivered.
 *
 * AMQP does not confirm acknowledgements, and a quorum queue applies them asynchronously. While 32 are pending, the channel holds back further ones,
 * and it discards those when it closes (RabbitMQ's rabbit_fifo_client.erl, `soft_limit` and `unsent_commands`; issue 10327). Starting and cancelling a
 * consumer, however, are commands in the same log, and RabbitMQ answers them once they are applied. The first answer therefore comes after all pending
 * acknowledgements, and the channel then sends those it held back. The second answer comes after these.
 *
 * @throws {Error} if the channel closes meanwhile. Waits without limit for a broker that does not answer.
 */
async function acknowledgementsApplied(channel: Channel, queue: string): Promise<void> {
  await channel.prefetch(1, false);
  const { consumerTag } = await channel.consume(queue, () => {});
  await channel.cancel(consumerTag);
}

/**
 * Combines the acknowledgements of a channel: one `basic.ack` per turn acknowledges all deliveries up to the highest tag below which all are done
 * (`multiple`). Delivery tags of a channel count up from 1. The deliveries of a batch are done when it is stored, and batches may be stored in any order.
 */
export class AckWindow {
  readonly #ack: (tag: number) => void;
  readonly #schedule: (flush: () => void) => void;
  /** Every tag up to this one is done: its delivery was stored, or returned. */
  #doneUpTo = 0;
  /** The highest tag at or below `#doneUpTo` that may be acknowledged: the broker rejects the tag of a returned message. */
  #ackable = 0;
  #acked = 0;
  #delivered = 0;
  /** Since when the next tag is the lowest that is not done (`performance.now()`). */
  #lowestSince = 0;
  #scheduled = false;
  /** Done tags beyond a gap: true for stored, false for returned. */
  readonly #ahead = new Map<number, boolean>();

  /**
   * @param ack acknowledges every delivery up to this tag.
   * @param schedule schedules the next acknowledgement. Default: at the end of the turn.
   */
  constructor(ack: (tag: number) => void, schedule: (flush: () => void) => void = queueMicrotask) {
    this.#ack = ack;
    this.#schedule = schedule;
  }

  /** Number of deliveries not done yet. */
  get open(): number {
    return this.#delivered - this.#doneUpTo - this.#ahead.size;
  }

  /** For how long at least the oldest delivery that is not done has been open. 0 if all are done. */
  get heldMs(): number {
    return this.open === 0 ? 0 : performance.now() - this.#lowestSince;
  }

  delivered(tag: number): void {
    if (this.#delivered === this.#doneUpTo) this.#lowestSince = performance.now();
    this.#delivered = tag;
  }

  /** The delivery is processed and will be acknowledged. */
  done(tag: number): void {
    this.#conclude(tag, true);
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#schedule(() => this.flush());
  }

  /** The delivery was returned to its queue. The broker already knows. */
  givenBack(tag: number): void {
    this.#conclude(tag, false);
  }

  /** Sends the acknowledgement now. */
  flush(): void {
    this.#scheduled = false;
    if (this.#ackable <= this.#acked) return;
    this.#acked = this.#ackable;
    this.#ack(this.#ackable);
  }

  #conclude(tag: number, done: boolean): void {
    if (tag !== this.#doneUpTo + 1) {
      if (tag > this.#doneUpTo) this.#ahead.set(tag, done);
      return;
    }
    this.#advance(tag, done);
    for (let next = this.#ahead.get(tag + 1); next !== undefined; next = this.#ahead.get(this.#doneUpTo + 1)) {
      this.#ahead.delete(this.#doneUpTo + 1);
      this.#advance(this.#doneUpTo + 1, next);
    }
    this.#lowestSince = performance.now();
  }

  #advance(tag: number, done: boolean): void {
    this.#doneUpTo = tag;
    if (done) this.#ackable = tag;
  }
}

export interface PrefetchOptions {
  /** Limit on unacknowledged messages. */
  readonly messages: number;
  /** Limit on their bytes, estimated from the mean size of recent messages. */
  readonly bytes: number;
}

/** Approximate number of messages in the mean. */
const REMEMBERED = 64;
/** Minimum of messages before a consumer is replaced to change its prefetch: each change costs two round trips. */
const WORTH_A_CHANGE = 256;

/**
 * Chooses the prefetch in messages so that their bytes stay bounded too. AMQP limits only messages: RabbitMQ does not implement `prefetch_size`, and the
 * prefetch of a consumer cannot be changed. So a consumer starts with the number of messages that fit, and is replaced once twice or half as many fit.
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

  /** Starts counting for a new consumer. @returns its prefetch, in messages. */
  begin(): number {
    this.#current = this.#fitting();
    this.#arrived = 0;
    return this.#current;
  }

  /** A message arrived. @returns whether another prefetch would fit much better. */
  arrived(bytes: number): boolean {
    this.#meanBytes += (bytes - this.#meanBytes) / REMEMBERED;
    this.#arrived += 1;
    if (this.#arrived < WORTH_A_CHANGE) return false;
    const fitting = this.#fitting();
    return fitting >= 2 * this.#current || this.#current >= 2 * fitting;
  }

  /** These messages, with this total of bytes, did not fit. */
  overflowed(messages: number, bytes: number): void {
    this.#meanBytes = Math.max(this.#meanBytes, bytes / Math.max(1, messages));
  }

  #fitting(): number {
    const { messages, bytes } = this.#options;
    return Math.max(1, Math.min(messages, Math.floor(bytes / Math.max(1, this.#meanBytes))));
  }
}
