/** The queues the dashboard shows, opened so that it writes nothing to them. */
import { DEAD_LETTER_QUEUE, EXPORTERS, eventsQueueName, processingQueueName } from "@celery-metrics-exporter/pipeline";
import type { Lifecycle, Logger, RedisConnection } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";

/** A queue with what a user should know of it. */
export interface ShownQueue {
  readonly queue: Queue;
  readonly description: string;
  /** Whether jobs wait here for a worker. */
  readonly isWorkedThrough: boolean;
  /** Asked on every request. Which exporters are on, and which have a second stage, only receiver and processors know: Redis tells. */
  readonly isVisible: () => Promise<boolean>;
}

export interface OpenQueuesOptions {
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly logger: Logger;
  readonly lifecycle: Lifecycle;
}

interface Description {
  readonly name: string;
  readonly text: string;
  /** Whether jobs wait here for a worker. */
  readonly isWorkedThrough: boolean;
  readonly isStage: boolean;
}

const LETTERS =
  "What could not be decoded or exported. Once the cause is fixed: celery-metrics-exporter replay. Nothing else works through it.";

const DESCRIPTIONS: readonly Description[] = [
  ...EXPORTERS.flatMap(({ name }) => [
    { name: eventsQueueName(name), text: `Batches of events on their way to the ${name} exporter.`, isWorkedThrough: true, isStage: false },
    {
      name: processingQueueName(name),
      text: `Ids of finished tasks, waiting for the ${name} exporter's second stage.`,
      isWorkedThrough: true,
      isStage: true,
    },
  ]),
  { name: DEAD_LETTER_QUEUE, text: LETTERS, isWorkedThrough: false, isStage: false },
];

/**
 * Opens the queues of every registered exporter, and the dead-letter queue. An exporter's are shown once a receiver or processor has made them,
 * and all exporters' before: a queue of an exporter that is off would look like one whose workers are gone.
 *
 * @throws when Redis goes away meanwhile: BullMQ never recovers a queue whose first command failed.
 */
export async function openQueues({ redis, prefix, logger, lifecycle }: OpenQueuesOptions): Promise<ShownQueue[]> {
  const exists = async (queue: Queue): Promise<boolean> => (await redis.exists(queue.toKey("meta"))) === 1;
  const opened = DESCRIPTIONS.map(({ name, text, isWorkedThrough, isStage }) => {
    const queue = new Queue(name, { connection: redis, prefix, skipMetasUpdate: true });
    queue.on("error", (error) => logger.debug({ queue: name, err: error }, "queue not readable"));
    lifecycle.defer(`${name} queue`, () => queue.close());
    return { queue, description: text, isWorkedThrough, isStage };
  });
  await Promise.all(opened.map(({ queue }) => queue.waitUntilReady()));
  const ofExporters = opened.filter(({ isWorkedThrough }) => isWorkedThrough).map(({ queue }) => queue);
  const noneExists = async (): Promise<boolean> => (await Promise.all(ofExporters.map(exists))).every((one) => !one);
  return opened.map(({ queue, description, isWorkedThrough, isStage }) => ({
    queue,
    description,
    isWorkedThrough,
    isVisible: async () => !isWorkedThrough || (await exists(queue)) || (!isStage && (await noneExists())),
  }));
}
