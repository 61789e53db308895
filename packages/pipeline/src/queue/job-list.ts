/** Lists of a queue's jobs beside BullMQ's own, which do not tell what kind of job it is. */
import { type RedisConnection, sendTogether } from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";
import { HELD_KEY, HELD_WORKERS_KEY, LISTENED_KEY, OBSERVED_KEY } from "./names.ts";

/** Jobs that are checked together. */
const PAGE = 100;

/** Ids of jobs, with a time each. They may be anywhere in the queue. Those of jobs that are gone are forgotten when the list is read. */
export class JobList {
  readonly #redis: RedisConnection;
  readonly #queue: Queue;
  readonly #key: string;

  /** Jobs that a processor has put back because a sink does not take them, or because a newer release has written them. */
  static held(redis: RedisConnection, queue: Queue): JobList {
    return new JobList(redis, queue, HELD_KEY);
  }

  /** Those of the held jobs that may contain events of workers. */
  static heldWorkers(redis: RedisConnection, queue: Queue): JobList {
    return new JobList(redis, queue, HELD_WORKERS_KEY);
  }

  /** Jobs with which receivers report that they listened. */
  static listened(redis: RedisConnection, queue: Queue): JobList {
    return new JobList(redis, queue, LISTENED_KEY);
  }

  /** Jobs with what a monitor observed. */
  static observed(redis: RedisConnection, queue: Queue): JobList {
    return new JobList(redis, queue, OBSERVED_KEY);
  }

  /** @param redis fails at once if Redis is unavailable; stays open. */
  private constructor(redis: RedisConnection, queue: Queue, key: string) {
    this.#redis = redis;
    this.#queue = queue;
    this.#key = queue.toKey(key);
  }

  /** @param job its timestamp is in milliseconds since 1970. */
  async add({ id, timestamp }: { readonly id: string; readonly timestamp: number }): Promise<void> {
    await this.#redis.zadd(this.#key, timestamp, id);
  }

  async remove(id: string): Promise<void> {
    await this.#redis.zrem(this.#key, id);
  }

  /** The time of the oldest job, in milliseconds since 1970. */
  async oldestTimestamp(): Promise<number | undefined> {
    return this.#firstTimestamp((last) => this.#redis.zrange(this.#key, "0", last, "WITHSCORES"));
  }

  /** The time of the newest job, in milliseconds since 1970. */
  async newestTimestamp(): Promise<number | undefined> {
    return this.#firstTimestamp((last) => this.#redis.zrevrange(this.#key, "0", last, "WITHSCORES"));
  }

  /** The number of jobs. */
  async size(): Promise<number> {
    const ids = await this.#redis.zrange(this.#key, "0", "-1");
    return ids.length - (await this.#forgetMissing(ids)).size;
  }

  /** Which of these jobs are not in the list. */
  async without(ids: readonly string[]): Promise<string[]> {
    if (ids.length === 0) return [];
    const scores = await sendTogether(
      this.#redis,
      ids.map((id) => ["zscore", this.#key, id]),
    );
    // An error says nothing, so the job counts as not listed.
    return ids.filter((_, index) => typeof scores[index] !== "string");
  }

  /** Which of these jobs are no longer in the queue. */
  async missing(ids: readonly string[]): Promise<string[]> {
    if (ids.length === 0) return [];
    const replies = await sendTogether(
      this.#redis,
      ids.map((id) => ["exists", this.#queue.toKey(id)]),
    );
    return ids.filter((_, index) => replies[index] === 0);
  }

  async #firstTimestamp(read: (last: string) => Promise<string[]>): Promise<number | undefined> {
    for (;;) {
      const listed = await read(String(PAGE - 1));
      const ids = listed.filter((_, index) => index % 2 === 0);
      if (ids.length === 0) return undefined;
      const missing = await this.#forgetMissing(ids);
      const first = ids.findIndex((id) => !missing.has(id));
      if (first >= 0) return Number(listed[2 * first + 1]);
    }
  }

  /** They were removed by hand, or finished by a release that does not know of the list. */
  async #forgetMissing(ids: readonly string[]): Promise<ReadonlySet<string>> {
    const missing = new Set(await this.missing(ids));
    if (missing.size > 0) await this.#redis.zrem(this.#key, ...missing);
    return missing;
  }
}
