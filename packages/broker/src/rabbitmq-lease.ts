/** Keeps our queue from expiring while we are there and do not consume: to RabbitMQ a queue without a consumer is unused. */
import type { ChannelModel } from "amqplib";
import { NOT_FOUND, attempt, type RabbitmqTopology } from "./rabbitmq-topology.ts";

const MAX_INTERVAL_MS = 30_000;

/** How often to renew, so that one renewal may come late. */
export function leaseIntervalMs({ queueExpiresMs }: RabbitmqTopology): number {
  return Math.min(queueExpiresMs / 3, MAX_INTERVAL_MS);
}

/**
 * Starts the queue's `x-expires` anew: gets a message, if there is one, and puts it back where it was. That works whatever the queue's arguments
 * are. A declaration renews a classic queue but not a quorum queue, and would make a missing queue anew without its binding; a passive
 * one renews neither (measured with RabbitMQ 3.10).
 *
 * @throws {Error} when the queue is missing, and whatever else the broker refuses.
 */
export async function renewLease(connection: ChannelModel, queue: string): Promise<void> {
  const failed = await attempt(connection, async (channel) => {
    const message = await channel.get(queue);
    if (message !== false) channel.nack(message, false, true);
  });
  if (failed === undefined) return;
  throw failed.code === NOT_FOUND ? new Error("our queue is missing (was it deleted?)", { cause: failed }) : failed;
}
