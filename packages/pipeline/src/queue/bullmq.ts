/** Opens BullMQ queues on our own connections, with a short event stream. */
import type { Logger, RedisConnection } from "@celery-metrics-exporter/runtime";
import { type BulkJobOptions, type Job, type JobsOptions, Queue } from "bullmq";
import { randomBytes } from "node:crypto";
import { withRedis } from "./redis-errors.ts";

/** Length of `<queue>:events`. BullMQ writes several entries per job, which nothing here reads. Its default of 10,000 wastes memory. */
const EVENT_STREAM_LENGTH = 100;

export interface QueueConnection {
  /** Stays open when the queue is closed. */
  readonly redis: RedisConnection;
  /** The prefix of every key. If it contains a `{hash tag}`, all keys are in one slot of a Redis Cluster. */
  readonly prefix: string;
  readonly logger: Logger;
}

const ID_BYTES = 9;

/**
 * Gives every job a unique id, unless it is added with one. BullMQ would use the next number of a counter in Redis, and silently drop a job whose number is
 * taken. After a restore that turned the counter back, thousands of jobs were lost but reported as stored.
 */
class QueueWithRandomIds extends Queue {
  override add(name: string, data: unknown, options?: JobsOptions): Promise<Job> {
    return super.add(name, data, { ...options, jobId: options?.jobId ?? randomJobId() });
  }

  override addBulk(jobs: { name: string; data: unknown; opts?: BulkJobOptions }[]): Promise<Job[]> {
    return super.addBulk(jobs.map((job) => ({ ...job, opts: { ...job.opts, jobId: randomJobId() } })));
  }
}

/** Begins with a letter, because BullMQ refuses numbers, and because the id must differ from the names of a queue's other keys. */
function randomJobId(): string {
  return `j${randomBytes(ID_BYTES).toString("base64url")}`;
}

/** Not usable until `queueIsReady` has resolved. */
export function openQueue(name: string, { redis, prefix, logger }: QueueConnection): Queue {
  const queue = new QueueWithRandomIds(name, { connection: redis, prefix, streams: { events: { maxLen: EVENT_STREAM_LENGTH } } });
  // Each failed command rejects where it was called, and the connection logs outages itself.
  queue.on("error", (err) => logger.debug({ queue: name, err }, "queue error"));
  return queue;
}

/**
 * Waits for the commands that BullMQ sends when a queue is opened. BullMQ sends them once: if they fail, every later command of the queue
 * fails with the same error, even when Redis is available again. So the queue must not be used before.
 *
 * @throws {UnavailableError} if Redis became unavailable meanwhile. Open another queue.
 */
export async function queueIsReady(queue: Queue): Promise<void> {
  await withRedis(`opening the queue ${queue.name}`, () => queue.waitUntilReady());
}

/**
 * BullMQ's lock settings. They determine how soon another process takes over from one that was killed.
 *
 * A job's lock is renewed at half its duration. Once it has expired, the next check for stalled jobs, which the workers of a queue share,
 * puts the job back. At worst, two intervals pass before that check: 8 + 2 × 2.5 = 13 s after the kill (with BullMQ's defaults: 60 s). An
 * event loop may be blocked for 4 s before another process runs its batches as well, which only costs time.
 */
export const LOCK_OPTIONS = {
  lockDuration: 8_000,
  stalledInterval: 2_500,
  /**
   * Practically unlimited, because BullMQ would move the job to `failed`. `evidence.ts` decides what to do with a job that stalls
   * repeatedly.
   */
  maxStalledCount: 1_000_000_000,
} as const;

/** How long a worker waits after an outage of Redis (BullMQ's default: 15 s), or after Redis refused its commands (BullMQ's default: 0). */
export const REDIS_RETRY_MS = 1_000;
