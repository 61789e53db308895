/** Reads the exporter queues from outside: what is in progress, whether everything is done, and whether there are dead letters. */
import { DEAD_LETTER_QUEUE, EXPORTERS, eventsQueueName, processingQueueName } from "@celery-metrics-exporter/pipeline";
import { parseRedisUrl, type RedisConnection } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";
import { Cluster, Redis } from "ioredis";
import { expect } from "vitest";

/** The default of `QUEUE_PREFIX`. */
const PREFIX = "{cme}";
const POLL_MS = 100;

/** Number of jobs, by state. */
export interface QueueContents {
  readonly waiting: number;
  readonly active: number;
  readonly delayed: number;
  readonly failed: number;
}

export class Queues {
  readonly redis: RedisConnection;
  readonly #work: readonly Queue[];
  readonly #deadLetters: Queue;
  readonly #prefix: string;

  constructor(redisUrl: string, prefix = PREFIX) {
    this.#prefix = prefix;
    this.redis = connect(redisUrl);
    // Redis goes away in some tests.
    this.redis.on("error", () => {});
    const names = EXPORTERS.flatMap(({ name }) => [eventsQueueName(name), processingQueueName(name)]);
    this.#work = names.map((name) => this.#open(name));
    this.#deadLetters = this.#open(DEAD_LETTER_QUEUE);
  }

  /** The jobs that a process is working on. */
  async active(queueName: string): Promise<string[]> {
    return this.redis.lrange(`${this.#prefix}:${queueName}:active`, 0, -1);
  }

  /** Number of jobs ever added to a queue. */
  async added(queueName: string): Promise<number> {
    return Number((await this.redis.get(`${this.#prefix}:${queueName}:id`)) ?? 0);
  }

  /** Number of these jobs that are not done. */
  async left(queueName: string, jobs: readonly string[]): Promise<number> {
    return jobs.length === 0 ? 0 : this.redis.exists(...jobs.map((job) => `${this.#prefix}:${queueName}:${job}`));
  }

  /** Changes the jobs of killed processes as if 13 seconds had passed. */
  async expireLocks(queueName: string): Promise<void> {
    const key = `${this.#prefix}:${queueName}`;
    const jobs = await this.active(queueName);
    if (jobs.length > 0)
      await this.redis
        .multi()
        .del(...jobs.map((job) => `${key}:${job}:lock`))
        .sadd(`${key}:stalled`, ...jobs)
        .exec();
    await this.redis.del(`${key}:stalled-check`);
  }

  async contents(queueName: string): Promise<QueueContents> {
    const queue = this.#work.find(({ name }) => name === queueName) ?? this.#deadLetters;
    const { waiting = 0, active = 0, delayed = 0, failed = 0 } = await queue.getJobCounts("waiting", "active", "delayed", "failed");
    return { waiting, active, delayed, failed };
  }

  /** Number of jobs in each queue, including failed ones. */
  async held(): Promise<Record<string, number>> {
    const held: Record<string, number> = {};
    for (const { name } of this.#work) held[name] = Object.values(await this.contents(name)).reduce((sum, jobs) => sum + jobs, 0);
    return held;
  }

  deadLetters(): Promise<number> {
    return this.#deadLetters.getWaitingCount();
  }

  async close(): Promise<void> {
    await Promise.all([...this.#work, this.#deadLetters].map((queue) => queue.close()));
    await this.redis.quit();
  }

  #open(name: string): Queue {
    const queue = new Queue(name, { connection: this.redis, prefix: this.#prefix });
    queue.on("error", () => {});
    return queue;
  }
}

function connect(url: string): RedisConnection {
  const parsed = parseRedisUrl(url);
  const nodes = parsed.ok ? parsed.server.nodes : undefined;
  const patience = { maxRetriesPerRequest: null };
  return nodes === undefined ? new Redis(url, patience) : new Cluster([...nodes], { redisOptions: patience });
}

/** Waits until these jobs are done. */
export async function expectDone(queues: Queues, queueName: string, jobs: readonly string[], timeoutMs: number): Promise<void> {
  const message = `jobs of ${queueName} that are not taken over`;
  await expect.poll(() => queues.left(queueName, jobs), { timeout: timeoutMs, interval: POLL_MS, message }).toBe(0);
}

/** Waits until every queue is empty; there must be no failed jobs and no dead letters. */
export async function expectAllDone(queues: Queues, timeoutMs: number): Promise<void> {
  const total = async (): Promise<number> => Object.values(await queues.held()).reduce((sum, count) => sum + count, 0);
  await expect.poll(total, { timeout: timeoutMs, interval: POLL_MS, message: "jobs left in the queues" }).toBe(0);
  expect(await queues.deadLetters(), "dead letters").toBe(0);
}
