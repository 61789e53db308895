/** Declares what consuming requires on RabbitMQ: Celery's exchange, our queue, and the binding between them. */
import { toError, type Logger } from "@celery-metrics-exporter/runtime";
import type { Channel, ChannelModel, Options } from "amqplib";
import { DEFAULT_EXCHANGE } from "../url/broker-url.ts";
import { DeniedError } from "../source/source.ts";

export interface RabbitmqTopology {
  /** Celery's `event_exchange`. */
  readonly exchange: string;
  readonly queue: string;
  /**
   * Celery publishes events as transient messages. If the broker restarts, a classic queue loses all of them and a quorum queue none (measured: 0 and
   * 1,000 of 1,000 left, also after SIGKILL).
   */
  readonly queueType: "quorum" | "classic";
  /** Size limit, beyond which the oldest messages are dropped, so that a receiver that never returns cannot fill the broker's disk. */
  readonly queueMaxBytes: number;
  /** The broker deletes a queue that is unused for this long (see lease.ts). */
  readonly queueExpiresMs: number;
}

export const ACCESS_REFUSED = 403;
export const NOT_FOUND = 404;
const PRECONDITION_FAILED = 406;

/**
 * Limit on deliveries of a message, practically unlimited. By default, RabbitMQ 4 drops a message after 20 deliveries, and every killed receiver
 * counts as a delivery of all messages it held. We never reject a message, so there are no poison messages.
 */
const DELIVERY_LIMIT = 1_000_000;

/** The result of binding our queue. */
export interface Binding {
  /** Set if the queue is not bound because the exchange does not exist: an explanation. */
  readonly missing?: string;
  /** Whether the exchange was missing and was created. */
  readonly exchangeCreated: boolean;
  /** Set if the queue was certainly not bound: the time of its last message (`performance.now()`). */
  readonly missingSince?: number;
}

/** The queue is missing or was replaced. Its messages are lost. */
export class QueueLostError extends Error {
  override readonly name = "QueueLostError";
}

/** The queue is missing, and the broker refuses to declare it. */
export class QueueRefusedError extends DeniedError {}

/**
 * Declares the queue if it is missing, and uses an existing one as it is. Each step uses a separate channel, because the broker closes the channel of
 * a failed step.
 *
 * Without the permission to configure the queue, RabbitMQ 4.2.6 and 4.3.0 do not tell whether it exists. Then binding it does.
 *
 * @returns whether it was missing.
 * @throws {QueueRefusedError} if it is missing and the broker refuses, with the missing permission.
 * @throws {DeniedError} if the broker refuses, and says that it cannot be used now.
 */
export async function declareQueue(connection: ChannelModel, topology: RabbitmqTopology, logger: Logger): Promise<boolean> {
  const { queue } = topology;
  const unseen = await attempt(connection, (channel) => channel.checkQueue(queue));
  const failed = await attempt(connection, (channel) => channel.assertQueue(queue, queueOptions(topology)));
  if (failed === undefined) return unseen?.code === NOT_FOUND;
  if (failed.code !== PRECONDITION_FAILED && failed.code !== ACCESS_REFUSED) throw failed;
  const isHidden = unseen?.code === ACCESS_REFUSED;
  const refused = `cannot declare queue ${queue}`;
  if (isMissing(isHidden ? await attemptBinding(connection, topology) : unseen, "queue"))
    throw new QueueRefusedError(refusalText(failed, refused), { cause: failed });
  // It may exist, for example on a node that is down.
  if (unseen !== undefined && !isHidden) throw refusal(failed, refused);
  if (failed.code === PRECONDITION_FAILED) {
    logger.warn(
      { queue, reason: failed.message },
      "the receiver's RabbitMQ queue exists with other arguments than configured, and is used as it is; to change them, stop the receivers and delete the queue",
    );
  }
  return false;
}

/**
 * Binds the queue to the exchange. Idempotent. Creates a missing exchange only if it has Celery's default name, exactly as Celery does, so that the
 * queue collects events from the first one on. Another name may be a mistake, which creating the exchange would hide. In that case, the binding must
 * wait for the first worker.
 *
 * @throws {DeniedError} if a permission is missing.
 * @throws {QueueLostError} if the queue is missing.
 * @throws {Error} if the connection is gone.
 */
export async function bindQueue(connection: ChannelModel, topology: RabbitmqTopology, logger: Logger): Promise<Binding> {
  const { exchange, queue } = topology;
  let failed = await attemptBinding(connection, topology);
  let exchangeCreated = false;
  if (isMissing(failed, "exchange") && exchange === DEFAULT_EXCHANGE) {
    exchangeCreated = await createDefaultExchange(connection, logger);
    if (exchangeCreated) failed = await attemptBinding(connection, topology);
  }
  if (failed === undefined) return { exchangeCreated };
  if (isMissing(failed, "exchange")) return { exchangeCreated, missing: await describeMissing(connection, exchange) };
  if (isMissing(failed, "queue")) throw new QueueLostError("our queue is missing (was it deleted?)", { cause: failed });
  throw refusal(failed, `cannot bind queue ${queue} to exchange ${exchange}`);
}

function attemptBinding(connection: ChannelModel, { queue, exchange }: RabbitmqTopology): Promise<AmqpError | undefined> {
  return attempt(connection, (channel) => channel.bindQueue(queue, exchange, "#"));
}

/** Creates the exchange as kombu does (celery/events/event.py, kombu/entity.py). False if it is not permitted. */
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

/**
 * Checks with a passive declaration. False also if the broker refuses to tell: RabbitMQ 4.2.6 and 4.3.0 require the permission to configure the exchange,
 * and later releases any permission on it.
 */
export async function exchangeExists(connection: ChannelModel, exchange: string): Promise<boolean> {
  return (await attempt(connection, (channel) => channel.checkExchange(exchange))) === undefined;
}

/** The type of the exchange `celeryev` if it is not `topic`. Undefined also if we may not declare it: a passive declaration does not reveal the type. */
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

/** Runs a step on a separate channel. Returns its error, if any. */
export async function attempt(connection: ChannelModel, step: (channel: Channel) => Promise<unknown>): Promise<AmqpError | undefined> {
  const channel = await connection.createChannel();
  // The step rejects with the same error.
  channel.on("error", () => {});
  try {
    await step(channel);
  } catch (thrown) {
    return toError(thrown);
  }
  await channel.close();
  return undefined;
}

/** Returns a `DeniedError` if the broker refused, otherwise the error itself. */
export function refusal(error: AmqpError, what: string): Error {
  return typeof error.code === "number" ? new DeniedError(refusalText(error, what), { cause: error }) : error;
}

function refusalText(error: AmqpError, what: string): string {
  return `${what} (${brokerText(error)})`;
}

/** Extracts the broker's text from amqplib's message. */
export function brokerText(error: Error): string {
  return /with message "(.*)"$/s.exec(error.message)?.[1] ?? error.message;
}
