/** Remote control over RabbitMQ. */
import { DeniedError } from "@celery-metrics-exporter/broker";
import { toError } from "@celery-metrics-exporter/runtime";
import type { Channel, ChannelModel, ConsumeMessage } from "amqplib";
import { randomUUID } from "node:crypto";
import type { ControlOptions, Transport } from "./control.ts";
import type { Body, RawReply, ReplyTo } from "./message.ts";

const NOT_FOUND = 404;
/** Replies kept until they are taken. More can only come from workers that answer twice. */
const MAX_REPLIES = 100_000;

/** RabbitMQ deletes the reply queue and its binding with the connection, however the process ends. */
export class RabbitmqTransport implements Transport {
  readonly replyTo: ReplyTo;
  readonly #model: ChannelModel;
  readonly #exchange: string;
  #replies: RawReply[] = [];
  #isOpen = true;

  private constructor(model: ChannelModel, { controlExchange, replyQueuePrefix }: ControlOptions) {
    this.#model = model;
    this.#exchange = `${controlExchange}.pidbox`;
    this.replyTo = { exchange: `reply.${controlExchange}.pidbox`, routingKey: `${replyQueuePrefix}.${randomUUID()}` };
  }

  /** @throws {DeniedError} if a permission is missing. */
  static async open(model: ChannelModel, options: ControlOptions): Promise<RabbitmqTransport> {
    const transport = new RabbitmqTransport(model, options);
    const missing = await transport.#listen();
    if (missing === undefined) return transport;
    // The first worker that replies would create it, exactly so (kombu/pidbox.py).
    const { exchange } = transport.replyTo;
    await onChannel(model, `create exchange ${exchange}`, (channel) => channel.assertExchange(exchange, "direct", { durable: false }));
    const error = await transport.#listen();
    if (error !== undefined) throw error;
    return transport;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** The broker does not tell how many workers listen, except that nobody does while the exchange is missing. */
  async publish({ body, contentType, contentEncoding }: Body): Promise<number | undefined> {
    const channel = await this.#model.createConfirmChannel();
    // The channel is closed instead of the message being confirmed, for example because the exchange is missing.
    const failed = new Promise<Error>((resolve) => {
      channel.on("error", resolve);
      channel.on("close", () => resolve(new Error("channel closed")));
    });
    channel.publish(this.#exchange, "", Buffer.from(body), { contentType, contentEncoding, headers: {}, deliveryMode: 1, priority: 0 });
    // RabbitMQ refuses to confirm if one queue did not take the message (since 4.3 also that of a worker that has just died). The others have it.
    const refused = new Promise<undefined>((resolve) => channel.once("nack", () => resolve(undefined)));
    const confirmed = channel.waitForConfirms().then(
      () => undefined,
      () => failed,
    );
    const error = await Promise.race([confirmed, refused, failed]);
    if (error === undefined) await channel.close();
    else if (codeOf(error) === NOT_FOUND) return 0;
    else throw explained(error, `publish to exchange ${this.#exchange}`);
    return undefined;
  }

  take(): Promise<RawReply[]> {
    if (!this.#isOpen) return Promise.reject(new Error("the queue for replies is gone"));
    const replies = this.#replies;
    this.#replies = [];
    return Promise.resolve(replies);
  }

  /** Declares, binds and consumes the reply queue. Returns the error if the exchange for replies is missing. */
  async #listen(): Promise<Error | undefined> {
    const { exchange, routingKey: queue } = this.replyTo;
    const channel = await this.#model.createChannel();
    channel.on("error", () => {});
    try {
      await channel.assertQueue(queue, { exclusive: true, autoDelete: true, durable: false });
      await channel.bindQueue(queue, exchange, queue);
      await channel.consume(queue, (message) => this.#arrived(message), { noAck: true });
    } catch (thrown) {
      const error = toError(thrown);
      if (codeOf(error) === NOT_FOUND) return error;
      throw explained(error, `receive replies in queue ${queue}`);
    }
    this.#isOpen = true;
    channel.on("close", () => (this.#isOpen = false));
    return undefined;
  }

  #arrived(message: ConsumeMessage | null): void {
    if (message === null) {
      this.#isOpen = false;
      return;
    }
    const { content, properties } = message;
    const frame = {
      body: content,
      contentType: properties.contentType as string | undefined,
      contentEncoding: properties.contentEncoding as string | undefined,
    };
    if (this.#replies.length < MAX_REPLIES) this.#replies.push({ frame, headers: properties.headers ?? {} });
  }
}

async function onChannel(model: ChannelModel, what: string, step: (channel: Channel) => Promise<unknown>): Promise<void> {
  const channel = await model.createChannel();
  channel.on("error", () => {});
  try {
    await step(channel);
  } catch (thrown) {
    throw explained(toError(thrown), what);
  }
  await channel.close();
}

function codeOf(error: Error): unknown {
  return "code" in error ? error.code : undefined;
}

function explained(error: Error, what: string): Error {
  return typeof codeOf(error) === "number" ? new DeniedError(`cannot ${what} (${error.message})`, { cause: error }) : error;
}
