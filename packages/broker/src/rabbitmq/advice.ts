/** What to check when nothing comes from RabbitMQ. */
import type { ChannelModel } from "amqplib";
import { DEFAULT_EXCHANGE } from "../url/broker-url.ts";
import { attempt, exchangeExists, otherTypeOfDefault, type RabbitmqTopology } from "./topology.ts";

/** Of our queue, as the broker counts them. */
export interface QueueCounts {
  readonly consumers?: number;
  /** Messages that nobody holds. */
  readonly waiting?: number;
}

/** What could be seen on the broker. */
export interface RabbitmqSight extends QueueCounts {
  readonly vhost: string;
  /** Whether Celery's exchange of the default name exists. */
  readonly defaultExchange: boolean;
  /** Its type where that is not `topic`; undefined where it is, or where we may not ask. */
  readonly otherType?: string | undefined;
}

/** Nothing if the broker does not say. */
export async function countQueue(connection: ChannelModel, queue: string): Promise<QueueCounts> {
  let counts = {};
  await attempt(connection, async (channel) => {
    const { consumerCount, messageCount } = await channel.checkQueue(queue);
    counts = { consumers: consumerCount, waiting: messageCount };
  });
  return counts;
}

/** Looks at what needs no permission, and at what we may. */
export async function lookAround(connection: ChannelModel, topology: RabbitmqTopology, vhost: string): Promise<RabbitmqSight> {
  const counts = await countQueue(connection, topology.queue);
  const defaultExchange = await exchangeExists(connection, DEFAULT_EXCHANGE);
  // One that is missing would be created, which only binding may decide.
  const otherType = defaultExchange ? await otherTypeOfDefault(connection) : undefined;
  return { vhost, ...counts, defaultExchange, otherType };
}

export function rabbitmqAdvice(
  { exchange, queue }: RabbitmqTopology,
  { vhost, consumers = 1, waiting = 0, defaultExchange, otherType }: RabbitmqSight,
): string {
  const found: string[] = [];
  if (exchange === DEFAULT_EXCHANGE && otherType !== undefined)
    found.push(`The exchange ${exchange} is of type ${otherType}: delete it, so that the next worker makes it anew as topic.`);
  if (exchange !== DEFAULT_EXCHANGE && defaultExchange)
    found.push(`There is an exchange ${DEFAULT_EXCHANGE}: if your workers use it, set EVENT_EXCHANGE.`);
  if (consumers > 1) {
    const held = waiting > 0 ? `, and ${waiting} messages wait in it` : "";
    found.push(
      `The queue ${queue} has ${consumers} consumers${held}: another one may get the events; give each deployment its own RABBITMQ_QUEUE.`,
    );
  }
  return [
    `check that a worker runs, with -E, on virtual host ${vhost} of this broker (CELERY_BROKER_URL), and that its event_exchange is ${exchange} (EVENT_EXCHANGE), a topic exchange.`,
    ...found,
  ].join(" ");
}
