/** The lengths of Celery's queues on RabbitMQ, by passive declaration. */
import type { ObservedQueue } from "@celery-metrics-exporter/celery";
import { toError } from "@celery-metrics-exporter/runtime";
import type { Channel, ChannelModel } from "amqplib";
import type { QueueLengths, RefusedQueue } from "../link/queue-lengths.ts";
import { ACCESS_REFUSED, type AmqpError, NOT_FOUND, brokerText } from "./topology.ts";

/** A queue that is exclusive to another connection. */
const RESOURCE_LOCKED = 405;
/** RabbitMQ's text names the permission to configure, which only two releases require. */
const REMEDY = "the permission to read the queue suffices, except on RabbitMQ 4.2.6 and 4.3.0";
/** Channels used at the same time. */
const LANES = 8;

/**
 * Counts ready messages and consumers. A missing queue is absent from the result. RabbitMQ refuses no user, except in 4.2.6 and 4.3.0, which
 * require the permission to configure the queue, and from 4.3.1 on, where one needs any permission on it.
 *
 * @throws {Error} if the connection fails.
 */
export async function rabbitmqQueueLengths(connection: ChannelModel, names: readonly string[]): Promise<QueueLengths> {
  const queues: ObservedQueue[] = [];
  const refused: RefusedQueue[] = [];
  const left = [...names];
  const lane = async (): Promise<void> => {
    let channel: Channel | undefined;
    for (let name = left.shift(); name !== undefined; name = left.shift()) {
      channel ??= await openChannel(connection);
      try {
        const { messageCount, consumerCount } = await channel.checkQueue(name);
        queues.push({ name, messages: messageCount, consumers: consumerCount });
      } catch (thrown) {
        // The broker has closed the channel.
        channel = undefined;
        const error: AmqpError = toError(thrown);
        if (error.code === NOT_FOUND) continue;
        if (error.code !== RESOURCE_LOCKED && error.code !== ACCESS_REFUSED) throw error;
        refused.push({ name, reason: error.code === ACCESS_REFUSED ? `${brokerText(error)}; ${REMEDY}` : brokerText(error) });
      }
    }
    await channel?.close();
  };
  await Promise.all(Array.from({ length: Math.min(LANES, names.length) }, lane));
  return { queues: inOrderOf(names, queues), refused };
}

async function openChannel(connection: ChannelModel): Promise<Channel> {
  const channel = await connection.createChannel();
  // The check rejects with the same error.
  channel.on("error", () => {});
  return channel;
}

function inOrderOf(names: readonly string[], queues: readonly ObservedQueue[]): ObservedQueue[] {
  const byName = new Map(queues.map((queue) => [queue.name, queue]));
  return names.flatMap((name) => byName.get(name) ?? []);
}
