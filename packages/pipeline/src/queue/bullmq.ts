/** A BullMQ queue as we open it: on a connection of ours, with a short event stream. */
import type { Logger, RedisConnection } from "@celery-metrics-exporter/runtime";
import { type BulkJobOptions, type Job, type JobsOptions, Queue } from "bullmq";
import { randomBytes } from "node:crypto";
import { withRedis } from "./redis-errors.ts";

/** BullMQ writes several entries per job into `<queue>:events`; nobody here reads them, and the default of 10,000 only takes memory. */
const EVENT_STREAM_LENGTH = 100;

export interface QueueConnection {
  /** Stays open when the queue is closed. */
  readonly redis: RedisConnection;
  /** Prefix of every key; with a `{hash tag}` in it all of them are in one slot of a Redis Cluster. */
  readonly prefix: string;
  readonly logger: Logger;
}

const ID_BYTES = 9;

/**
 * Gives every job an id that no other job has. BullMQ would take the next number of a counter in Redis, and silently drop a job whose number is
 * taken: after a restore that turned the counter back, thousands were lost and reported as stored.
 */
class QueueWithRandomIds extends Queue {
  override add(name: string, data: unknown, options?: JobsOptions): Promise<Job> {
    return super.add(name, data, { ...options, jobId: randomJobId() });
  }

  override addBulk(jobs: { name: string; data: unknown; opts?: BulkJobOptions }[]): Promise<Job[]> {
    return super.addBulk(jobs.map((job) => ({ ...job, opts: { ...job.opts, jobId: randomJobId() } })));
  }
}

/** The letter in front keeps it from being a number, which BullMQ refuses, and apart from the names of a queue's other keys. */
function randomJobId(): string {
  return `j${randomBytes(ID_BYTES).toString("base64url")}`;
}

/** Not usable until `queueIsReady` has resolved. */
export function openQueue(name: string, { redis, prefix, logger }: QueueConnection): Queue {
  const queue = new QueueWithRandomIds(name, { connection: redis, prefix, streams: { events: { maxLen: EVENT_STREAM_LENGTH } } });
  // Each failed command rejects where it was called, and the connection logs its own loss.
  queue.on("error", (err) => logger.debug({ queue: name, err }, "queue error"));
  return queue;
}

/**
 * Waits for what BullMQ asks Redis when a queue is opened. BullMQ asks once: a queue whose first command failed fails every later one with
 * that same error, however well Redis is by then, so nothing may be started on it.
 *
 * @throws {UnavailableError} when Redis went away meanwhile: open another.
 */
export async function queueIsReady(queue: Queue): Promise<void> {
  await withRedis(`opening the queue ${queue.name}`, () => queue.waitUntilReady());
}

// BullMQ's lock settings: how soon another process takes over from one that was killed.

/**
 * A job's lock is renewed at half its duration; once it has expired, the next look for stalled jobs, which the workers of a queue share, puts
 * the job back. At worst two intervals pass before that look: 8 + 2 × 2.5 = 13 s after the kill (BullMQ's defaults: 60 s). An event loop may be
 * blocked for 4 s before another process runs its batches as well, which only costs time.
 */
export const LOCK_OPTIONS = {
  lockDuration: 8_000,
  stalledInterval: 2_500,
  /** Never: BullMQ would put the job into `failed`. What to do with a job that stalls again and again is decided in `evidence.ts`. */
  maxStalledCount: 1_000_000_000,
} as const;

/** How long a worker waits after Redis was away, or refused it a job, before it asks again (BullMQ's default: 15 s, and not at all). */
export const REDIS_RETRY_MS = 1_000;
