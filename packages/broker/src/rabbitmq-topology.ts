/** What must exist on RabbitMQ before we can consume: Celery's exchange, our queue, and the binding between them. */
import { toError, type Logger } from "@celery-metrics-exporter/runtime";
import type { Channel, ChannelModel, Options } from "amqplib";
import { RefusedError } from "./refused-error.ts";

export interface RabbitmqTopology {
  /** Celery's `event_exchange`. */
  readonly exchange: string;
  readonly queue: string;
  /**
   * Celery publishes events as transient messages: when the broker restarts, a classic queue has lost them all, a quorum queue none
   * (measured: 0 and 1,000 of 1,000 left, also after SIGKILL).
   */
  readonly queueType: "quorum" | "classic";
  /** Past it the oldest messages are dropped, so that a receiver that never comes back cannot fill the broker's disk. */
  readonly queueMaxBytes: number;
  /** The broker deletes a queue that was unused for this long (see rabbitmq-lease.ts). */
  readonly queueExpiresMs: number;
}

const ACCESS_REFUSED = 403;
export const NOT_FOUND = 404;
const PRECONDITION_FAILED = 406;

/**
 * RabbitMQ 4 drops a message that was delivered 20 times; each receiver that is killed counts as a delivery of all it held. We never refuse
 * a message, so none can be poison.
 */
const DELIVERY_LIMIT = 1_000_000;

/**
 * Declares what is missing, and uses what is there as it is. Each step has a channel of its own: the broker closes the channel of a step
 * that fails.
 *
 * @throws {RefusedError} when the broker does not let us, with the permission it misses.
 */
export async function declareTopology(connection: ChannelModel, topology: RabbitmqTopology, logger: Logger): Promise<void> {
  const { exchange, queue } = topology;
  await declareExchange(connection, exchange);
  await declareQueue(connection, topology, logger);
  const bind = await attempt(connection, (channel) => channel.bindQueue(queue, exchange, "#"));
  if (bind !== undefined) throw refusal(bind, `cannot bind queue ${queue} to exchange ${exchange}`);
}

/** Looks first: a passive declaration needs no permission to configure, and is right whatever type the exchange has. */
async function declareExchange(connection: ChannelModel, exchange: string): Promise<void> {
  const missing = await attempt(connection, (channel) => channel.checkExchange(exchange));
  if (missing === undefined) return;
  if (missing.code !== NOT_FOUND) throw refusal(missing, `cannot use exchange ${exchange}`);
  // As kombu declares it: celery/events/event.py, kombu/entity.py.
  const failed = await attempt(connection, (channel) => channel.assertExchange(exchange, "topic", { durable: true }));
  if (failed !== undefined) throw refusal(failed, `cannot declare exchange ${exchange}`);
}

async function declareQueue(connection: ChannelModel, topology: RabbitmqTopology, logger: Logger): Promise<void> {
  const { queue } = topology;
  const failed = await attempt(connection, (channel) => channel.assertQueue(queue, queueOptions(topology)));
  if (failed === undefined) return;
  if (failed.code !== PRECONDITION_FAILED && failed.code !== ACCESS_REFUSED) throw failed;
  const missing = await attempt(connection, (channel) => channel.checkQueue(queue));
  if (missing !== undefined) throw refusal(failed, `cannot declare queue ${queue}`);
  if (failed.code === PRECONDITION_FAILED) {
    logger.warn(
      { queue, reason: failed.message },
      "the queue exists with other arguments than configured and is used as it is; delete it to have it made anew",
    );
  }
}

function queueOptions({ queueType, queueMaxBytes, queueExpiresMs }: RabbitmqTopology): Options.AssertQueue {
  return {
    durable: true,
    arguments: {
      "x-queue-type": queueType,
      "x-max-length-bytes": queueMaxBytes,
      "x-overflow": "drop-head",
      "x-expires": queueExpiresMs,
      ...(queueType === "quorum" ? { "x-delivery-limit": DELIVERY_LIMIT } : {}),
    },
  };
}

interface AmqpError extends Error {
  /** AMQP reply code. */
  readonly code?: number;
}

/** Takes a step on a channel of its own. What went wrong, or undefined. */
export async function attempt(connection: ChannelModel, step: (channel: Channel) => Promise<unknown>): Promise<AmqpError | undefined> {
  const channel = await connection.createChannel();
  // The failed step rejects with the same error.
  channel.on("error", () => {});
  try {
    await step(channel);
  } catch (thrown) {
    return toError(thrown);
  }
  await channel.close();
  return undefined;
}

/** What went wrong, as `RefusedError` where it is the broker that does not want it. */
export function refusal(error: AmqpError, what: string): Error {
  return typeof error.code === "number" ? new RefusedError(`${what} (${brokerText(error)})`, { cause: error }) : error;
}

/** The broker's own words out of amqplib's message. */
function brokerText(error: Error): string {
  return /with message "(.*)"$/s.exec(error.message)?.[1] ?? error.message;
}
