/**
 * Gauges of an exporter's queues. They are read from Redis every few seconds, so that `/metrics` answers at once even if Redis does not.
 * The number of finished tasks that are not delivered yet is also written to Redis, for the receiver.
 */
import { type Logger, type Metrics, type RedisConnection, Repeat, sendTogether } from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";
import { JobList } from "../queue/job-list.ts";
import { idsIn } from "../queue/scheduled-ids.ts";
import { UNDELIVERED_KEY } from "../queue/names.ts";

const INTERVAL_MS = 5_000;
const STATES = ["wait", "active", "delayed", "failed"] as const;
/** Jobs read from each end of a list, however long the list is. */
const LOOKED_AT = 10;
/** Active jobs that are read. */
const ACTIVE_LOOKED_AT = 100;
/** Jobs of ids that are opened to learn their mean size. */
const OPENED = 3;
/** Weight of the latest sample in the mean number of ids per job, because sizes differ and few jobs are opened at a time. */
const NEWEST_SHARE = 0.3;
/** Expiry of the number. Only processors empty the queue, so the number stays true while none is running, but not forever. */
const UNDELIVERED_EXPIRY_SECONDS = 86_400;

export interface QueueGaugesOptions {
  /** The events' queue, and the processing queue of an exporter that has one. */
  readonly queues: readonly Queue[];
  /** A connection that fails at once if Redis is unavailable. */
  readonly redis: RedisConnection;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

export class QueueGauges {
  readonly #options: QueueGaugesOptions;
  readonly #jobs;
  readonly #lag;
  #meanIds: number | undefined;
  #repeat: Repeat | undefined;

  constructor(options: QueueGaugesOptions) {
    this.#options = options;
    this.#jobs = options.metrics.gauge("queue_jobs", "Jobs of a queue by state: batches, not events, and the few jobs with observations.", [
      "queue",
      "state",
    ]);
    this.#lag = options.metrics.gauge(
      "queue_lag_seconds",
      "Age of the oldest job of a queue that is not done: waiting, running, delayed, put off or held; 0 when there is none.",
      ["queue"],
    );
  }

  /** Reads the queues now, and then every five seconds. */
  async start(): Promise<void> {
    const onError = (err: Error): void => this.#options.logger.debug({ err }, "queue lengths unknown");
    this.#repeat = new Repeat(() => this.#refreshAll(), { everyMs: INTERVAL_MS, first: "now", onError });
    await this.#repeat.firstRun;
  }

  close(): void {
    void this.#repeat?.stop();
  }

  async #refreshAll(): Promise<void> {
    const counts = await Promise.all(this.#options.queues.map((queue) => this.#refresh(queue)));
    await this.#reportUndelivered(counts[1] ?? 0);
  }

  /** The number of jobs that are not done. */
  async #refresh(queue: Queue): Promise<number> {
    const counts = await queue.getJobCounts(...STATES);
    for (const state of STATES) this.#jobs.set({ queue: queue.name, state }, counts[state] ?? 0);
    this.#lag.set({ queue: queue.name }, await this.#lagSeconds(queue));
    return (counts["wait"] ?? 0) + (counts["active"] ?? 0) + (counts["delayed"] ?? 0);
  }

  async #lagSeconds(queue: Queue): Promise<number> {
    const timestamps = await this.#fieldOf(queue, await this.#oldest(queue), "timestamp");
    const oldestHeld = await JobList.held(this.#options.redis, queue).oldestTimestamp();
    const created = [...timestamps, oldestHeld ?? 0].map(Number).filter((timestamp) => timestamp > 0);
    return created.length === 0 ? 0 : Math.max(0, (Date.now() - Math.min(...created)) / 1_000);
  }

  /**
   * Ids of jobs that include the oldest one, unless that is held. BullMQ adds at the head of the list of waiting jobs and takes from its
   * tail. Delayed jobs are ordered by their due time: the first are the oldest of those with the same delay, and the last are those put off
   * for longest.
   */
  async #oldest(queue: Queue): Promise<string[]> {
    const delayed = queue.toKey("delayed");
    const replies = await sendTogether(this.#options.redis, [
      ["lindex", queue.toKey("wait"), -1],
      ["lrange", queue.toKey("active"), -ACTIVE_LOOKED_AT, -1],
      ["zrange", delayed, 0, LOOKED_AT - 1],
      ["zrange", delayed, -LOOKED_AT, -1],
    ]);
    return idsAmong(replies);
  }

  async #fieldOf(queue: Queue, ids: readonly string[], field: string): Promise<string[]> {
    const commands = [...new Set(ids)].map((id) => ["hget", queue.toKey(id), field]);
    const replies = commands.length === 0 ? [] : await sendTogether(this.#options.redis, commands);
    return replies.filter((reply) => typeof reply === "string");
  }

  /** Does nothing for an exporter without a second stage. */
  async #reportUndelivered(jobs: number): Promise<void> {
    const [events, processing] = this.#options.queues;
    if (events === undefined || processing === undefined) return;
    if (jobs > 0) await this.#learnMean(processing, jobs);
    const undelivered = Math.round(jobs * (this.#meanIds ?? 0));
    await this.#options.redis.set(events.toKey(UNDELIVERED_KEY), String(undelivered), "EX", UNDELIVERED_EXPIRY_SECONDS);
  }

  async #learnMean(queue: Queue, jobs: number): Promise<void> {
    const { redis } = this.#options;
    const delayed = queue.toKey("delayed");
    const replies = await sendTogether(redis, [
      ["lindex", queue.toKey("wait"), -1],
      ["lindex", queue.toKey("active"), -1],
      ...Array.from({ length: OPENED }, () => Math.floor(Math.random() * jobs)).map((rank) => ["zrange", delayed, rank, rank]),
    ]);
    const payloads = await this.#fieldOf(queue, idsAmong(replies).slice(-OPENED), "data");
    if (payloads.length === 0) return;
    const mean = payloads.reduce((sum, payload) => sum + idsIn(payload), 0) / payloads.length;
    this.#meanIds = this.#meanIds === undefined ? mean : this.#meanIds + NEWEST_SHARE * (mean - this.#meanIds);
  }
}

/** The ids in replies that contain one id, none or several. */
function idsAmong(replies: readonly unknown[]): string[] {
  return replies.flat().filter((id) => typeof id === "string");
}
