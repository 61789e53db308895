/** Batches that are held: they are back in their queue, because a sink does not take them or because a newer release has written them. */
import {
  type ComponentHealth,
  type Logger,
  Outage,
  type RedisConnection,
  backoffMs,
  pause,
  sendTogether,
  toError,
} from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";
import type { TakenJob } from "../queue/taken-job.ts";

const BACKOFF = { firstMs: 500, maxMs: 30_000 };
/** A wait is no longer than so much for each time that the sink was asked: a batch of one event asks once, a large one some 45 times. */
const WAIT_PER_TRY_MS = 700;
const POLL_MS = 200;
/** A sink that took something so recently is not the one at fault: nothing waits, only what is held. */
const SERVING_MS = 5_000;
/** How often it is looked whether held batches are still there: others may have done them. */
const LOOK_MS = 30_000;
/** Of how many jobs is known that they are held. More take no memory, and are seen again when their turn comes. */
const MOST_JOBS = 10_000;
const LOOKED_AT = 100;

export interface HoldingOptions {
  /** Up until the first batch is held. */
  readonly component: ComponentHealth;
  readonly logger: Logger;
  readonly held: Pick<HeldJobs, "missing">;
  /** None is held any more, of which some were reported elsewhere. */
  readonly onEnd: () => void;
}

/** One for each stage of an exporter: not ready while batches that it held are in the queue. */
export class Holding {
  readonly #outage: Outage;
  readonly #held: Pick<HeldJobs, "missing">;
  readonly #logger: Logger;
  readonly #onEnd: () => void;
  /** Ids. */
  readonly #jobs = new Set<string>();
  #isReportedElsewhere = false;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  /** In a row. */
  #times = 0;
  #servedAt = Number.NEGATIVE_INFINITY;

  constructor({ component, logger, held, onEnd }: HoldingOptions) {
    this.#held = held;
    this.#logger = logger;
    this.#onEnd = onEnd;
    this.#outage = new Outage({
      component,
      logger,
      began: "batches are held, they stay in the queue and are tried again",
      ended: "batches go through again",
    });
  }

  /** A job is held. */
  add(jobId: string, because: string, error: Error): void {
    this.#add(jobId);
    this.#outage.failed({ reason: `${because} (${error.message})`, err: error });
  }

  /** A job is held for a reason that is reported elsewhere. */
  addReported(jobId: string): void {
    this.#isReportedElsewhere = true;
    this.#add(jobId);
  }

  /**
   * A job is done, held before or not.
   *
   * @param served whether the sink took something of it, which ends the waiting.
   */
  done(jobId: string, served: boolean): void {
    if (served) this.served();
    if (this.#jobs.delete(jobId)) this.#endIfNone();
  }

  /** The sink took something. */
  served(): void {
    this.#times = 0;
    this.#servedAt = performance.now();
  }

  /**
   * Waits longer each time, so that a sink that refuses everything is not asked all the time. Ends early when something gets through; not at
   * all while something does.
   *
   * @param tries how often it was asked for this batch.
   */
  async wait(tries: number, signal: AbortSignal): Promise<void> {
    if (performance.now() - this.#servedAt < SERVING_MS) return;
    this.#times += 1;
    const until = performance.now() + Math.min(backoffMs(this.#times - 1, BACKOFF), Math.max(1, tries) * WAIT_PER_TRY_MS);
    while (this.#times > 0 && performance.now() < until && !signal.aborted) await pause(POLL_MS, signal);
  }

  /** Reports nothing more. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #add(jobId: string): void {
    if (this.#jobs.size < MOST_JOBS) this.#jobs.add(jobId);
    this.#watch();
  }

  /** As long as any is known. */
  #watch(): void {
    if (this.#isClosed || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#forgetMissing()
        .catch((thrown: unknown) => this.#logger.debug({ err: toError(thrown) }, "held jobs unknown"))
        .finally(() => {
          this.#timer = undefined;
          if (this.#jobs.size > 0) this.#watch();
        });
    }, LOOK_MS).unref();
  }

  /** From the first on, until one is there. */
  async #forgetMissing(): Promise<void> {
    for (;;) {
      const ids = [...this.#jobs].slice(0, LOOKED_AT);
      const missing = await this.#held.missing(ids);
      for (const id of missing) this.#jobs.delete(id);
      if (missing.length < ids.length || ids.length === 0) break;
    }
    this.#endIfNone();
  }

  #endIfNone(): void {
    if (this.#jobs.size > 0) return;
    this.#outage.served();
    if (this.#isReportedElsewhere) this.#onEnd();
    this.#isReportedElsewhere = false;
  }
}

// Knows which jobs of a queue are held. A held job goes to the end of its queue: the oldest is anywhere among those that wait.

/** Within the queue: ids of held jobs, by when they were created. */
const HELD_KEY = "held";
/** Looked at together. */
const PAGE = 100;

export class HeldJobs {
  readonly #redis: RedisConnection;
  readonly #queue: Queue;

  /** @param redis fails at once when Redis is away; stays open. */
  constructor(redis: RedisConnection, queue: Queue) {
    this.#redis = redis;
    this.#queue = queue;
  }

  async add({ id, timestamp }: Pick<TakenJob, "id" | "timestamp">): Promise<void> {
    await this.#redis.zadd(this.#key, timestamp, id);
  }

  async remove(id: string): Promise<void> {
    await this.#redis.zrem(this.#key, id);
  }

  /** When the oldest was created, in milliseconds since 1970. Forgets those that are gone: done by a release that does not know of this, or removed. */
  async oldestTimestamp(): Promise<number | undefined> {
    for (;;) {
      const listed = await this.#redis.zrange(this.#key, "0", String(PAGE - 1), "WITHSCORES");
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
