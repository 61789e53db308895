/**
 * A wrapper around BullMQ's worker: it takes jobs while Redis is available, stops with or without Redis, and lets no job end in `failed`.
 */
import {
  type ComponentHealth,
  type Logger,
  type RedisConnection,
  pause,
  redisProblem,
  toError,
  Outage,
} from "@celery-metrics-exporter/runtime";
import { type Job, WaitingError, Worker } from "bullmq";
import { LOCK_OPTIONS, REDIS_RETRY_MS } from "./bullmq.ts";
import { withRedis } from "./redis-errors.ts";
import { LostJobError } from "../contract/errors.ts";

export interface QueueWorkerOptions {
  readonly queueName: string;
  /** A `worker` connection; stays open. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly concurrency: number;
  /** Handles a job. Must not throw. */
  readonly handle: (job: TakenJob) => Promise<Fate>;
  /** Called when a job was taken over from a process that died. */
  readonly onStalled: () => void;
  /** Down while Redis refuses to hand out jobs. */
  readonly component: ComponentHealth;
  readonly logger: Logger;
}

const RECONNECT_POLL_MS = 50;

export class QueueWorker {
  readonly #options: QueueWorkerOptions;
  readonly #worker: Worker;
  readonly #denial: RedisDenial;
  readonly #abandoned = new AbortController();
  /** BullMQ's own connection, on which it waits for jobs. It is a duplicate of ours, and reconnects at a different time. */
  #blocking: { readonly status: string } | undefined;
  #resting: NodeJS.Timeout | undefined;

  constructor(options: QueueWorkerOptions) {
    this.#options = options;
    const { queueName, redis, prefix, concurrency, component, onStalled } = options;
    const logger = options.logger.child({ queue: queueName });
    this.#denial = new RedisDenial(component, logger);
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
      // The connection logs outages itself. Other errors are a refusal, or a lock that was lost during an outage of Redis.
      logger.debug({ err }, "worker error");
      if (err.name !== "ReplyError" || this.#worker.closing !== undefined) return;
      this.#denial.refused(redisProblem(err));
      this.#rest();
    });
    this.#worker.on("active", () => this.#denial.served());
    this.#worker.on("drained", () => this.#denial.served());
  }

  /**
   * Starts taking jobs.
   *
   * @throws {UnavailableError} if Redis becomes unavailable before BullMQ has opened its connections: it would never open them again.
   */
  async start(): Promise<void> {
    await withRedis("starting a worker", () => this.#worker.waitUntilReady());
    this.#blocking = await this.#worker.getBackend().blockingClient;
    this.#worker.run().catch((thrown: unknown) => this.#options.logger.error({ err: toError(thrown) }, "worker ended"));
  }

  /** Whether both connections are ready (BullMQ's own may also be closed). */
  get isConnected(): boolean {
    return this.#options.redis.status === "ready" && !this.#isReconnecting;
  }

  /**
   * Takes no more jobs, and resolves when those under way are done or given back. Without Redis it never resolves. Waits for a connection
   * that is reconnecting, because BullMQ would wait for its end, which ioredis does not announce.
   */
  async close(): Promise<void> {
    clearTimeout(this.#resting);
    this.#denial.close();
    await this.#worker.pause(true);
    while (this.#isReconnecting && !this.#abandoned.signal.aborted) await pause(RECONNECT_POLL_MS, this.#abandoned.signal);
    await this.#worker.close();
  }

  /** Stops at once, with or without Redis, if `close` does not. Other processes take over the jobs under way. */
  abandon(): void {
    this.#abandoned.abort();
    const failed = (thrown: unknown): void => this.#options.logger.debug({ err: toError(thrown) }, "worker not closed");
    this.#worker.close(true).catch(failed);
  }

  get #isReconnecting(): boolean {
    return this.#blocking !== undefined && this.#blocking.status !== "ready" && this.#blocking.status !== "end";
  }

  /** Pauses, because Redis refuses commands for lack of memory or permission. BullMQ would retry at once, thousands of times a second. */
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
    // BullMQ's way to let go of a job without an outcome. If the job was not moved, its lock expires and it stalls.
    if ((await handle(new TakenJob(job, token, logger))) === "elsewhere") throw new WaitingError();
  }
}

// Stopping a worker, with or without Redis.

/** How long a drain waits for an unavailable Redis. */
const REDIS_PATIENCE_MS = 2_000;
/** How long jobs may take to stop and go back to their queue, once they have to. */
const OVERDUE_PATIENCE_MS = 2_000;
const POLL_MS = 200;

/**
 * Resolves when the worker has let go of its jobs, or when it makes no sense to wait for that any longer.
 *
 * @param overdue the drain's signal that jobs under way have to stop.
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
        logger.warn({ awayMs, lateMs }, "jobs do not finish in time: another process will take them over");
        worker.abandon();
        return;
      }
      await pause(POLL_MS, closed.signal);
    }
  };
  await Promise.race([close(), abandonInTime()]);
}

/** Measures how long a condition has been true without interruption. */
class Stopwatch {
  #since: number | undefined;

  measure(isSo: boolean): number {
    if (isSo) this.#since ??= performance.now();
    else this.#since = undefined;
    return this.#since === undefined ? 0 : performance.now() - this.#since;
  }
}

// A job that this process has taken from a queue.

/** What happens to a job: it is completed (`done`), or it was put off, given back or left to be taken over (`elsewhere`). */
export type Fate = "done" | "elsewhere";

export class TakenJob {
  readonly #job: Job;
  readonly #token: string;
  readonly #logger: Logger;

  /** @param token the token of the job's lock. */
  constructor(job: Job, token: string, logger: Logger) {
    this.#job = job;
    this.#token = token;
    this.#logger = logger;
  }

  get id(): string {
    return String(this.#job.id);
  }

  /** See `JOB_NAMES`. */
  get name(): string {
    return this.#job.name;
  }

  get payload(): unknown {
    return this.#job.data;
  }

  /** When its contents were first put on the queue, in milliseconds since 1970. */
  get timestamp(): number {
    return this.#job.timestamp;
  }

  /** How often it was taken, including this time. */
  get starts(): number {
    return this.#job.attemptsStarted;
  }

  /** How often it was taken over from a process that died. */
  get stalls(): number {
    return this.#job.stalledCounter;
  }

  /** The note last written with `writeNote`. */
  get note(): unknown {
    return this.#job.progress;
  }

  /**
   * Replaces the payload.
   *
   * @throws {LostJobError} if another process has the job.
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async write(payload: unknown): Promise<void> {
    await this.#write("holding a batch", () => this.#job.updateData(payload));
  }

  /**
   * Writes a note on the job, for the process that takes it next.
   *
   * @throws {LostJobError} if another process has the job.
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async writeNote(note: object): Promise<void> {
    await this.#write("noting a step", () => this.#job.updateProgress(note));
  }

  /** Puts the job back for later. If that fails, it is taken over once its lock expires. */
  async putOff(delayMs: number): Promise<Fate> {
    return this.#move("job not put off: it will be taken over", () => this.#job.moveToDelayed(Date.now() + delayMs, this.#token));
  }

  /** Puts the job back at once. If that fails, it is taken over once its lock expires. */
  async giveBack(): Promise<Fate> {
    return this.#move("job not given back: it will be taken over", () => this.#job.moveToWait(this.#token));
  }

  async #move(failed: string, move: () => Promise<unknown>): Promise<Fate> {
    try {
      await move();
    } catch (thrown) {
      this.#logger.debug({ job: this.id, err: toError(thrown) }, failed);
    }
    return "elsewhere";
  }

  /** Extends the lock first, because BullMQ would also write to a job that another process has by now. */
  async #write(what: string, write: () => Promise<void>): Promise<void> {
    await withRedis(what, async () => {
      if ((await this.#job.extendLock(this.#token, LOCK_OPTIONS.lockDuration)) !== 1) throw new LostJobError("keeping a job");
      await write();
    });
  }
}

// The outage in which Redis answers a worker but refuses its commands: at `maxmemory` (OOM), without permission (NOPERM), unable to save
// (MISCONF).

/**
 * How long without a refusal until Redis counts as available again. A worker with an empty queue gets no sign of success, but during a
 * refusal its check for stalled jobs fails at least this often.
 */
const QUIET_MS = 3 * (LOCK_OPTIONS.stalledInterval + REDIS_RETRY_MS);

export class RedisDenial {
  readonly #outage: Outage;
  #quiet: NodeJS.Timeout | undefined;

  /** @param component up until the first refusal. */
  constructor(component: ComponentHealth, logger: Logger) {
    this.#outage = new Outage({
      component,
      logger,
      began: "Redis refuses to hand out jobs: they stay in the queue",
      ended: "Redis hands out jobs again",
    });
  }

  /** @param reason in Redis' words. */
  refused(reason: string): void {
    this.#outage.failed({ reason });
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => this.served(), QUIET_MS).unref();
  }

  served(): void {
    clearTimeout(this.#quiet);
    this.#outage.served();
  }

  /** Stops reporting. */
  close(): void {
    clearTimeout(this.#quiet);
  }
}
