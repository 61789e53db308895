/** Knows which jobs of a queue are held. A held job goes to the end of its queue: the oldest is anywhere among those that wait. */
import { sendTogether, type RedisConnection } from "@celery-metrics-exporter/runtime";
import type { Job, Queue } from "bullmq";

/** Within the queue: ids of held jobs, by when they were created. */
const HELD_KEY = "held";
/** Looked at together. */
const LOOKED_AT = 100;

export class HeldJobs {
  readonly #redis: RedisConnection;
  readonly #queue: Queue;

  /** @param redis fails at once when Redis is away; stays open. */
  constructor(redis: RedisConnection, queue: Queue) {
    this.#redis = redis;
    this.#queue = queue;
  }

  async add({ id, timestamp }: Pick<Job, "id" | "timestamp">): Promise<void> {
    await this.#redis.zadd(this.#key, timestamp, String(id));
  }

  async remove(id: string): Promise<void> {
    await this.#redis.zrem(this.#key, id);
  }

  /** When the oldest was created, in milliseconds since 1970. Forgets those that are gone: done by a release that does not know of this, or removed. */
  async oldestTimestamp(): Promise<number | undefined> {
    for (;;) {
      const listed = await this.#redis.zrange(this.#key, "0", String(LOOKED_AT - 1), "WITHSCORES");
      const ids = listed.filter((_, index) => index % 2 === 0);
      if (ids.length === 0) return undefined;
      const missing = new Set(await this.missing(ids));
      if (missing.size > 0) await this.#redis.zrem(this.#key, ...missing);
      const first = ids.findIndex((id) => !missing.has(id));
      if (first >= 0) return Number(listed[2 * first + 1]);
    }
  }

  /** Which of these jobs are not in the queue any more. */
  async missing(ids: readonly string[]): Promise<string[]> {
    const replies = await sendTogether(
      this.#redis,
      ids.map((id) => ["exists", this.#queue.toKey(id)]),
    );
    return ids.filter((_, index) => replies[index] === 0);
  }

  get #key(): string {
    return this.#queue.toKey(HELD_KEY);
  }
}
