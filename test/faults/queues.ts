/** What the exporters' queues hold, read from outside: what is under way, whether all is done, and whether anything was buried. */
import { DEAD_LETTER_QUEUE, EXPORTERS, eventsQueueName, processingQueueName } from "@celery-metrics-exporter/pipeline";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { expect } from "vitest";

const PREFIX = "{cme}";
const POLL_MS = 100;

export class Queues {
  readonly redis: Redis;
  readonly #work: readonly Queue[];
  readonly #deadLetters: Queue;

  constructor(redisUrl: string) {
    this.redis = new Redis(redisUrl, { maxRetriesPerRequest: null });
    // Redis goes away in some tests.
    this.redis.on("error", () => {});
    const names = EXPORTERS.flatMap(({ name }) => [eventsQueueName(name), processingQueueName(name)]);
    this.#work = names.map((name) => this.#open(name));
    this.#deadLetters = this.#open(DEAD_LETTER_QUEUE);
  }

  /** The jobs that a process has in hand. */
  async active(queueName: string): Promise<string[]> {
    return this.redis.lrange(`${PREFIX}:${queueName}:active`, 0, -1);
  }

  /** How many jobs were ever put on a queue. */
  async added(queueName: string): Promise<number> {
    return Number((await this.redis.get(`${PREFIX}:${queueName}:id`)) ?? 0);
  }

  /**
   * Waits until these jobs are done.
   *
   * @returns how long that took, in milliseconds.
   */
  async whenDone(queueName: string, jobs: readonly string[], timeoutMs: number): Promise<number> {
    const began = Date.now();
    const left = async (): Promise<number> =>
      jobs.length === 0 ? 0 : this.redis.exists(...jobs.map((job) => `${PREFIX}:${queueName}:${job}`));
    await expect.poll(left, { timeout: timeoutMs, interval: POLL_MS, message: `jobs of ${queueName} to be taken over` }).toBe(0);
    return Date.now() - began;
  }

  /** Does to the jobs of processes that were killed what the passing of 13 seconds does. */
  async expireLocks(queueName: string): Promise<void> {
    const key = `${PREFIX}:${queueName}`;
    const jobs = await this.active(queueName);
    if (jobs.length > 0)
      await this.redis
        .multi()
        .del(...jobs.map((job) => `${key}:${job}:lock`))
        .sadd(`${key}:stalled`, ...jobs)
        .exec();
    await this.redis.del(`${key}:stalled-check`);
  }

  /** Waits until every queue is empty; nothing may have failed or been buried. */
  async expectAllDone(timeoutMs: number): Promise<void> {
    const counts = async (): Promise<Record<string, number>> => {
      const held: Record<string, number> = {};
      for (const queue of this.#work) {
        const { wait, active, delayed, failed } = await queue.getJobCounts("wait", "active", "delayed", "failed");
        held[queue.name] = Number(wait) + Number(active) + Number(delayed) + Number(failed);
      }
      return held;
    };
    const none = Object.fromEntries(this.#work.map(({ name }) => [name, 0]));
    await expect.poll(counts, { timeout: timeoutMs, interval: POLL_MS, message: "queues to be empty" }).toEqual(none);
    expect(await this.#deadLetters.getWaitingCount(), "dead letters").toBe(0);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#work, this.#deadLetters].map((queue) => queue.close()));
    await this.redis.quit();
  }

  #open(name: string): Queue {
    const queue = new Queue(name, { connection: this.redis, prefix: PREFIX });
    queue.on("error", () => {});
    return queue;
  }
}
