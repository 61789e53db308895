/** Knows which batches of an exporter were begun but are not done: their process died or is slow, or Redis was unavailable. */
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";

/**
 * Identifies jobs by id and not by time, because the clocks of the hosts differ. A finished job is removed at once, and a job that is taken
 * over keeps its id.
 */
export class BegunBatches {
  readonly #redis: RedisConnection;
  readonly #queue: Queue;

  /** @param redis stays open. */
  constructor(redis: RedisConnection, queue: Queue) {
    this.#redis = redis;
    this.#queue = queue;
  }

  /** The ids of the jobs that workers are running, including jobs of processes that died. */
  async ids(): Promise<readonly string[]> {
    return this.#redis.lrange(this.#queue.toKey("active"), 0, -1);
  }

  /** Whether any of these jobs is not done. */
  async areUnfinished(ids: readonly string[]): Promise<boolean> {
    if (ids.length === 0) return false;
    return (await this.#redis.exists(...ids.map((id) => this.#queue.toKey(id)))) > 0;
  }
}
