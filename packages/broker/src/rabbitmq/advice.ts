/** What to check if no message arrives from RabbitMQ. */
import type { ChannelModel } from "amqplib";
import { DEFAULT_EXCHANGE } from "../url/broker-url.ts";
import { attempt, exchangeExists, otherTypeOfDefault, type RabbitmqTopology } from "./topology.ts";
import { isSince, rabbitmqVersion } from "./version.ts";

/** Counts of our queue, from the broker. */
export interface QueueCounts {
  readonly consumers?: number;
  /** Messages not delivered to a consumer. */
  readonly waiting?: number;
}

/** The findings on the broker. */
export interface RabbitmqSight extends QueueCounts {
  readonly vhost: string;
  /** The release of RabbitMQ, such as `4.3.6`; undefined for another AMQP server. */
  readonly version?: string | undefined;
  /** Whether Celery's exchange of the default name exists. */
  readonly defaultExchange: boolean;
  /** Its type if it is not `topic`; undefined if it is, or if we may not ask. */
  readonly otherType?: string | undefined;
}

/** Since this release, RabbitMQ refuses by default the queues that workers of Celery 5.6 and earlier declare by default. */
const REFUSES_CELERYS_QUEUES = "4.3";

/** Empty if the broker does not answer. */
export async function countQueue(connection: ChannelModel, queue: string): Promise<QueueCounts> {
  let counts = {};
  await attempt(connection, async (channel) => {
    const { consumerCount, messageCount } = await channel.checkQueue(queue);
    counts = { consumers: consumerCount, waiting: messageCount };
  });
  return counts;
}

/** Inspects the broker, as far as permissions allow. */
export async function lookAround(connection: ChannelModel, topology: RabbitmqTopology, vhost: string): Promise<RabbitmqSight> {
  const counts = await countQueue(connection, topology.queue);
  const defaultExchange = await exchangeExists(connection, DEFAULT_EXCHANGE);
  // Not for a missing exchange: the check would create it, which is the decision of `bindQueue`.
  const otherType = defaultExchange ? await otherTypeOfDefault(connection) : undefined;
  return { vhost, version: rabbitmqVersion(connection), ...counts, defaultExchange, otherType };
}

export function rabbitmqAdvice(
  { exchange, queue }: RabbitmqTopology,
  { vhost, version, consumers = 1, waiting = 0, defaultExchange, otherType }: RabbitmqSight,
): string {
  const found: string[] = [];
  if (isSince(REFUSES_CELERYS_QUEUES, version))
    found.push(
      `This is RabbitMQ ${version}: if a worker's log mentions transient_nonexcl_queues, set control_queue_exclusive and event_queue_exclusive (Celery 5.6) or permit them in rabbitmq.conf.`,
    );
  if (exchange === DEFAULT_EXCHANGE && otherType !== undefined)
    found.push(`The exchange ${exchange} has the type ${otherType}: delete it, so that the next worker recreates it as a topic exchange.`);
  if (exchange !== DEFAULT_EXCHANGE && defaultExchange)
    found.push(`There is an exchange ${DEFAULT_EXCHANGE}: if your workers use it, change EVENT_EXCHANGE.`);
  if (consumers > 1) {
    const held = waiting > 0 ? ` and ${waiting} waiting messages` : "";
    found.push(
      `The queue ${queue} has ${consumers} consumers${held}: another consumer may get the events; give each deployment its own RABBITMQ_QUEUE.`,
    );
  }
  return [
    `check that a worker runs, with -E, on virtual host ${vhost} of this broker (CELERY_BROKER_URL), and that its event_exchange is ${exchange} (EVENT_EXCHANGE), a topic exchange.`,
    ...found,
  ].join(" ");
}
