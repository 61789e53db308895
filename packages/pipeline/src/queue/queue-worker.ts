/** BullMQ's worker as we use it: takes jobs while Redis serves, ends with or without it, and never lets a job end in `failed`. */
import { type ComponentHealth, type Logger, type RedisConnection, pause, redisProblem, toError } from "@celery-metrics-exporter/runtime";
import { type Job, WaitingError, Worker } from "bullmq";
import { LOCK_OPTIONS, REDIS_RETRY_MS } from "./bullmq.ts";
import { withRedis } from "./redis-errors.ts";
import { RedisRefusal } from "./redis-refusal.ts";
import { type Fate, TakenJob } from "./taken-job.ts";

export interface QueueWorkerOptions {
  readonly queueName: string;
  /** A `worker` connection; stays open. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly concurrency: number;
  /** Handles a job. May not throw. */
  readonly handle: (job: TakenJob) => Promise<Fate>;
  /** A job was taken over from a process that died. */
  readonly onStalled: () => void;
  /** Down while Redis refuses to hand out jobs. */
  readonly component: ComponentHealth;
  readonly logger: Logger;
}

const RECONNECT_POLL_MS = 50;

export class QueueWorker {
  readonly #options: QueueWorkerOptions;
  readonly #worker: Worker;
  readonly #refusal: RedisRefusal;
  readonly #abandoned = new AbortController();
  /** BullMQ's own connection, on which it waits for jobs: a duplicate of ours, which comes back at another time. */
  #blocking: { readonly status: string } | undefined;
  #resting: NodeJS.Timeout | undefined;

  constructor(options: QueueWorkerOptions) {
    this.#options = options;
    const { queueName, redis, prefix, concurrency, component, onStalled } = options;
    const logger = options.logger.child({ queue: queueName });
    this.#refusal = new RedisRefusal(component, logger);
    this.#worker = new Worker(queueName, (job, token) => this.#process(job, token), {
      connection: redis,
      prefix,
      concurrency,
      autorun: false,
      removeOnComplete: { count: 0 },
      runRetryDelay: REDIS_RETRY_MS,
      ...LOCK_OPTIONS,
    });
    this.#worker.on("stalled", (job) => {
      onStalled();
      logger.warn({ job }, "job taken over from a process that died");
    });
    this.#worker.on("failed", (job, err) => logger.error({ job: job?.id, err }, "job failed"));
    this.#worker.on("error", (err) => {
      // The connection logs its own loss; what remains is a refusal, or a lock that was lost while Redis was away.
      logger.debug({ err }, "worker error");
      if (err.name !== "ReplyError" || this.#worker.closing !== undefined) return;
      this.#refusal.refused(redisProblem(err));
      this.#rest();
    });
    this.#worker.on("active", () => this.#refusal.served());
    this.#worker.on("drained", () => this.#refusal.served());
  }

  /**
   * Begins to take jobs.
   *
   * @throws {UnavailableError} when Redis goes away before BullMQ has opened its connections: it would never open them again.
   */
  async start(): Promise<void> {
    await withRedis("starting a worker", () => this.#worker.waitUntilReady());
    this.#blocking = await this.#worker.getBackend().blockingClient;
    this.#worker.run().catch((thrown: unknown) => this.#options.logger.error({ err: toError(thrown) }, "worker ended"));
  }

  /** Whether both connections are there, or ended on purpose. */
  get isConnected(): boolean {
    return this.#options.redis.status === "ready" && this.#isBlockingSettled;
  }

  /**
   * Takes no more jobs, and resolves when those under way are done or given back; without Redis, never. A connection that is just reconnecting
   * is waited for: BullMQ would wait for its end, of which ioredis does not tell.
   */
  async close(): Promise<void> {
    clearTimeout(this.#resting);
    this.#refusal.close();
    await this.#worker.pause(true);
    while (!this.#isBlockingSettled && !this.#abandoned.signal.aborted) await pause(RECONNECT_POLL_MS, this.#abandoned.signal);
    await this.#worker.close();
  }

  /** Ends at once, with or without Redis, when `close` does not. Jobs under way are taken over. */
  abandon(): void {
    this.#abandoned.abort();
    const failed = (thrown: unknown): void => this.#options.logger.debug({ err: toError(thrown) }, "worker not closed");
    this.#worker.close(true).catch(failed);
  }

  get #isBlockingSettled(): boolean {
    return this.#blocking === undefined || this.#blocking.status === "ready" || this.#blocking.status === "end";
  }

  /** Redis refuses commands, for lack of memory or of permission. BullMQ would ask again at once, thousands of times a second. */
  #rest(): void {
    if (this.#resting !== undefined) return;
    const { logger } = this.#options;
    const failed = (thrown: unknown): void => logger.debug({ err: toError(thrown) }, "worker not paused");
    this.#worker.pause(true).catch(failed);
    this.#resting = setTimeout(() => {
      this.#resting = undefined;
      this.#worker.resume().catch(failed);
    }, REDIS_RETRY_MS);
  }

  async #process(job: Job, token = ""): Promise<void> {
    const { handle, logger } = this.#options;
    // BullMQ's way to let go of a job without an outcome. One that was not moved loses its lock and stalls.
    if ((await handle(new TakenJob(job, token, logger))) === "elsewhere") throw new WaitingError();
  }
}

// Ends a worker, with or without Redis.

/** How long a drain waits for a Redis that is away. */
const REDIS_PATIENCE_MS = 2_000;
/** How long jobs that have been told to stop may take to do so, and to go back to their queue. */
const OVERDUE_PATIENCE_MS = 2_000;
const POLL_MS = 200;

/**
 * Resolves when the worker has let go of its jobs, or there is no point in waiting for that any longer.
 *
 * @param overdue of the drain: what is under way has to stop.
 */
export async function closeWorker(
  worker: Pick<QueueWorker, "close" | "abandon" | "isConnected">,
  overdue: AbortSignal,
  logger: Logger,
): Promise<void> {
  const closed = new AbortController();
  const close = async (): Promise<void> => {
    await worker.close();
    closed.abort();
  };
  const abandonInTime = async (): Promise<void> => {
    const away = new Stopwatch();
    const late = new Stopwatch();
    while (!closed.signal.aborted) {
      const awayMs = away.measure(!worker.isConnected);
      const lateMs = late.measure(overdue.aborted);
      if (awayMs >= REDIS_PATIENCE_MS || lateMs >= OVERDUE_PATIENCE_MS) {
        logger.warn({ awayMs, lateMs }, "a worker does not end: jobs under way will be taken over");
        worker.abandon();
        return;
      }
      await pause(POLL_MS, closed.signal);
    }
  };
  await Promise.race([close(), abandonInTime()]);
}

/** For how long something has been so without a break. */
class Stopwatch {
  #since: number | undefined;

  measure(isSo: boolean): number {
    if (isSo) this.#since ??= performance.now();
    else this.#since = undefined;
    return this.#since === undefined ? 0 : performance.now() - this.#since;
  }
}
