/** Waits until a queue has taken in the acknowledgements of a channel, so that closing the channel loses none. */
import type { Channel } from "amqplib";

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
export async function acknowledgementsApplied(channel: Channel, queue: string): Promise<void> {
  await channel.prefetch(1, false);
  const { consumerTag } = await channel.consume(queue, () => {});
  await channel.cancel(consumerTag);
}
