/** Gauges of a queue's length and lag, read from Redis every few seconds, so that `/metrics` answers at once even when Redis does not. */
import { toError, type Logger, type Metrics, type RedisConnection } from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";

const INTERVAL_MS = 5_000;
const STATES = ["wait", "active", "delayed", "failed"] as const;

export interface QueueGaugesOptions {
  readonly queues: readonly Queue[];
  /** A connection that fails at once when Redis is away. */
  readonly redis: RedisConnection;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

export class QueueGauges {
  readonly #options: QueueGaugesOptions;
  readonly #jobs;
  readonly #lag;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: QueueGaugesOptions) {
    this.#options = options;
    this.#jobs = options.metrics.gauge("queue_jobs", "Jobs of a queue (batches, not events), by state.", ["queue", "state"]);
    this.#lag = options.metrics.gauge("queue_lag_seconds", "Age of the oldest job that waits; 0 when none does.", ["queue"]);
  }

  /** Reads the queues now, and from now on every five seconds. */
  async start(): Promise<void> {
    await this.#refreshAndRepeat();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #refreshAndRepeat(): Promise<void> {
    try {
      await Promise.all(this.#options.queues.map((queue) => this.#refresh(queue)));
    } catch (thrown) {
      this.#options.logger.debug({ err: toError(thrown) }, "queue lengths unknown");
    }
    if (!this.#closed) this.#timer = setTimeout(() => void this.#refreshAndRepeat(), INTERVAL_MS).unref();
  }

  async #refresh(queue: Queue): Promise<void> {
    const counts = await queue.getJobCounts(...STATES);
    for (const state of STATES) this.#jobs.set({ queue: queue.name, state }, counts[state] ?? 0);
    this.#lag.set({ queue: queue.name }, await this.#lagSeconds(queue));
  }

  /** BullMQ adds at the head of the list and takes from its tail. */
  async #lagSeconds(queue: Queue): Promise<number> {
    const oldest = await this.#options.redis.lindex(queue.toKey("wait"), -1);
    const timestamp = oldest === null ? null : await this.#options.redis.hget(queue.toKey(oldest), "timestamp");
    return timestamp === null ? 0 : Math.max(0, (Date.now() - Number(timestamp)) / 1_000);
  }
}
