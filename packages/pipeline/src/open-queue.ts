/** A BullMQ queue as we open it: on a connection of ours, with a short event stream. */
import type { Logger } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";
import type { Redis } from "ioredis";

/** BullMQ writes several entries per job into `<queue>:events`; nobody here reads them, and the default of 10,000 only takes memory. */
const EVENT_STREAM_LENGTH = 100;

export interface QueueConnection {
  /** Stays open when the queue is closed. */
  readonly redis: Redis;
  /** Prefix of every key; with a `{hash tag}` in it all of them are in one slot of a Redis Cluster. */
  readonly prefix: string;
  readonly logger: Logger;
}

export function openQueue(name: string, { redis, prefix, logger }: QueueConnection): Queue {
  const queue = new Queue(name, { connection: redis, prefix, streams: { events: { maxLen: EVENT_STREAM_LENGTH } } });
  // Each failed command rejects where it was called, and the connection logs its own loss.
  queue.on("error", (err) => logger.debug({ queue: name, err }, "queue error"));
  return queue;
}
