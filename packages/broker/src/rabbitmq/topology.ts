/** What must exist on RabbitMQ before we can consume: Celery's exchange, our queue, and the binding between them. */
import { toError, type Logger } from "@celery-metrics-exporter/runtime";
import type { Channel, ChannelModel, Options } from "amqplib";
import { DEFAULT_EXCHANGE } from "../url/broker-url.ts";
import { RefusedError } from "../source/source.ts";

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

export const ACCESS_REFUSED = 403;
export const NOT_FOUND = 404;
const PRECONDITION_FAILED = 406;

/**
 * RabbitMQ 4 drops a message that was delivered 20 times; each receiver that is killed counts as a delivery of all it held. We never refuse
 * a message, so none can be poison.
 */
const DELIVERY_LIMIT = 1_000_000;

/** What has come of binding our queue. */
export interface Binding {
  /** Why the queue is not bound, if it is not: the exchange does not exist. */
  readonly missing?: string;
  /** Whether the exchange was missing and has been created. */
  readonly exchangeCreated: boolean;
  /** If the queue was certainly not bound: until when it had brought messages (`performance.now()`). */
  readonly missingSince?: number;
}

/** The queue is not there, or is no longer the one it was: messages in it are gone. */
export class QueueLostError extends Error {
  override readonly name = "QueueLostError";
}

/**
 * Declares the queue if it is missing, and uses one that is there as it is. Each step has a channel of its own: the broker closes the channel
 * of a step that fails.
 *
 * @returns whether it was missing.
 * @throws {RefusedError} when the broker does not let us, with the permission it misses.
 */
export async function declareQueue(connection: ChannelModel, topology: RabbitmqTopology, logger: Logger): Promise<boolean> {
  const { queue } = topology;
  const missing = await attempt(connection, (channel) => channel.checkQueue(queue));
  const failed = await attempt(connection, (channel) => channel.assertQueue(queue, queueOptions(topology)));
  if (failed === undefined) return missing?.code === NOT_FOUND;
  if (failed.code !== PRECONDITION_FAILED && failed.code !== ACCESS_REFUSED) throw failed;
  if (missing !== undefined) throw refusal(failed, `cannot declare queue ${queue}`);
  if (failed.code === PRECONDITION_FAILED) {
    logger.warn(
      { queue, reason: failed.message },
      "the queue exists with other arguments than configured and is used as it is; delete it to have it made anew",
    );
  }
  return false;
}

/**
 * Binds the queue to the exchange. Repeating it changes nothing. A missing exchange is created only under Celery's default name, exactly as
 * Celery does, so that events wait in our queue from the first one on. Under another name it may be a mistake, and creating it would hide
 * that: then the binding has to wait for the first worker.
 *
 * @throws {RefusedError} when a permission is missing.
 * @throws {QueueLostError} when the queue is missing.
 * @throws {Error} when the connection is gone.
 */
export async function bindQueue(connection: ChannelModel, topology: RabbitmqTopology, logger: Logger): Promise<Binding> {
  const { exchange, queue } = topology;
  const bind = (): Promise<AmqpError | undefined> => attempt(connection, (channel) => channel.bindQueue(queue, exchange, "#"));
  let failed = await bind();
  let exchangeCreated = false;
  if (isMissing(failed, "exchange") && exchange === DEFAULT_EXCHANGE) {
    exchangeCreated = await createDefaultExchange(connection, logger);
    if (exchangeCreated) failed = await bind();
  }
  if (failed === undefined) return { exchangeCreated };
  if (isMissing(failed, "exchange")) return { exchangeCreated, missing: await describeMissing(connection, exchange) };
  if (isMissing(failed, "queue")) throw new QueueLostError("our queue is missing (was it deleted?)", { cause: failed });
  throw refusal(failed, `cannot bind queue ${queue} to exchange ${exchange}`);
}

/** As kombu declares it: celery/events/event.py, kombu/entity.py. False if we may not. */
async function createDefaultExchange(connection: ChannelModel, logger: Logger): Promise<boolean> {
  const failed = await attempt(connection, (channel) => channel.assertExchange(DEFAULT_EXCHANGE, "topic", { durable: true }));
  if (failed !== undefined) return false;
  logger.info({ exchange: DEFAULT_EXCHANGE }, "the exchange did not exist; created it as Celery does");
  return true;
}

async function describeMissing(connection: ChannelModel, exchange: string): Promise<string> {
  const celerys = exchange !== DEFAULT_EXCHANGE && (await exchangeExists(connection, DEFAULT_EXCHANGE));
  const hint = celerys ? ` (the exchange ${DEFAULT_EXCHANGE} exists)` : "";
  return `waiting for the exchange ${exchange}, which does not exist: start a worker with -E, or check EVENT_EXCHANGE${hint} and the virtual host in CELERY_BROKER_URL`;
}

/** A passive declaration needs no permission. */
export async function exchangeExists(connection: ChannelModel, exchange: string): Promise<boolean> {
  return (await attempt(connection, (channel) => channel.checkExchange(exchange))) === undefined;
}

/** Of the exchange `celeryev`, if its type is not `topic`. Undefined also where we may not declare it: a passive declaration tells no type. */
export async function otherTypeOfDefault(connection: ChannelModel): Promise<string | undefined> {
  const failed = await attempt(connection, (channel) => channel.assertExchange(DEFAULT_EXCHANGE, "topic", { durable: true }));
  return /inequivalent arg 'type'.* current is '([\w-]+)'/.exec(failed?.message ?? "")?.[1];
}

function isMissing(error: AmqpError | undefined, what: "exchange" | "queue"): boolean {
  return error?.code === NOT_FOUND && error.message.includes(`no ${what} `);
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

export interface AmqpError extends Error {
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
