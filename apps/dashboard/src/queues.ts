/** The queues that the dashboard shows, opened so that it writes nothing to them. */
import { DEAD_LETTER_QUEUE, EXPORTERS, eventsQueueName, processingQueueName } from "@celery-metrics-exporter/pipeline";
import type { Lifecycle, Logger, RedisConnection } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";

/** A queue and what a user should know about it. */
export interface ShownQueue {
  readonly queue: Queue;
  readonly description: string;
  /** Whether a worker processes the jobs in this queue. */
  readonly isWorkedThrough: boolean;
  /** Called on every request: only receivers and processors know which exporters are on and which have a second stage, so this asks Redis. */
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
  /** Whether a worker processes the jobs in this queue. */
  readonly isWorkedThrough: boolean;
  readonly isStage: boolean;
}

const LETTERS =
  "Messages and events that could not be decoded or exported. Once the cause is fixed, run celery-metrics-exporter replay. Nothing else processes this queue.";

const DESCRIPTIONS: readonly Description[] = [
  ...EXPORTERS.flatMap(({ name }) => [
    { name: eventsQueueName(name), text: `Batches of events on their way to the ${name} exporter.`, isWorkedThrough: true, isStage: false },
    {
      name: processingQueueName(name),
      text: `Ids of finished tasks that wait for the ${name} exporter's second stage.`,
      isWorkedThrough: true,
      isStage: true,
    },
  ]),
  { name: DEAD_LETTER_QUEUE, text: LETTERS, isWorkedThrough: false, isStage: false },
];

/**
 * Opens the queues of every registered exporter and the dead-letter queue. An exporter's queues are shown once a receiver or processor has
 * created them; until any exist, those of all exporters are shown. The queue of an exporter that is off would look as if its workers were gone.
 *
 * @throws if Redis goes away meanwhile: BullMQ never recovers a queue whose first command failed.
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
