/** The queues the dashboard shows, opened so that it writes nothing to them. */
import { DEAD_LETTER_QUEUE, EXPORTERS, eventsQueueName, processingQueueName } from "@celery-metrics-exporter/pipeline";
import type { Lifecycle, Logger, RedisConnection } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";

/** A queue with what a user should know of it. */
export interface ShownQueue {
  readonly queue: Queue;
  readonly description: string;
  /** Asked on every request. Not every exporter has a second stage, and which has one only its processor knows: Redis tells. */
  readonly isVisible: () => Promise<boolean>;
}

export interface OpenQueuesOptions {
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly logger: Logger;
  readonly lifecycle: Lifecycle;
}

const DESCRIPTIONS = EXPORTERS.flatMap(({ name }) => [
  { name: eventsQueueName(name), description: `Batches of events on their way to the ${name} exporter.`, onlyIfUsed: false },
  {
    name: processingQueueName(name),
    description: `Ids of finished tasks, waiting for the ${name} exporter's second stage.`,
    onlyIfUsed: true,
  },
]).concat({ name: DEAD_LETTER_QUEUE, description: "What could not be decoded or exported, with the reason.", onlyIfUsed: false });

/**
 * Opens the queues of every registered exporter, and the dead-letter queue.
 *
 * @throws when Redis goes away meanwhile: BullMQ never recovers a queue whose first command failed.
 */
export async function openQueues({ redis, prefix, logger, lifecycle }: OpenQueuesOptions): Promise<ShownQueue[]> {
  const opened = DESCRIPTIONS.map(({ name, description, onlyIfUsed }) => {
    const queue = new Queue(name, { connection: redis, prefix, skipMetasUpdate: true });
    queue.on("error", (error) => logger.debug({ queue: name, err: error }, "queue not readable"));
    lifecycle.defer(`${name} queue`, () => queue.close());
    const isUsed = async (): Promise<boolean> => (await redis.exists(queue.toKey("meta"))) === 1;
    return { queue, description, isVisible: onlyIfUsed ? isUsed : async () => true };
  });
  await Promise.all(opened.map(({ queue }) => queue.waitUntilReady()));
  return opened;
}
