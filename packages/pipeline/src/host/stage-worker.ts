/** Runs one stage of an exporter as a BullMQ worker: takes jobs, keeps them until they are done, and never lets one end in `failed`. */
import {
  type Health,
  type Logger,
  type RedisConnection,
  UnavailableError,
  backoffMs,
  pause,
  redisProblem,
  toError,
} from "@celery-metrics-exporter/runtime";
import { DelayedError, type Job, WaitingError, Worker } from "bullmq";
import { GivenBack } from "./drain.ts";
import { LetGo, LostJobError, NewerPayloadError } from "../contract/errors.ts";
import type { HeldJobs } from "../hold/holding.ts";
import { RedisRefusal } from "./redis-refusal.ts";
import { JobHandler, type JobHandlerOptions } from "./job-handler.ts";
import { keepJob } from "../hold/job-notes.ts";
import { withRedis } from "../queue/redis-errors.ts";
import type { HeldBatch } from "./stage.ts";
import { LOCK_OPTIONS, REDIS_RETRY_MS } from "../queue/bullmq.ts";
import { tryUntilDecided } from "../deliver/tries.ts";

const RECONNECT_POLL_MS = 50;

/** When a job that must wait is looked at again. */
const LOOK = { firstMs: 100, maxMs: 1_000 };
/** Then it runs all the same. Longer than any takeover takes. */
const MAX_LOOKS = 60;
/** A job that is held goes to the end of its queue, so that others get their turn. One whose turn brings nothing waits longer and longer. */
const HELD_DELAY = { firstMs: 1_000, maxMs: 30_000 };
/** When a job of a newer release is looked at again: a newer process may take it then. */
const NEWER_DELAY_MS = 5_000;
/** Between two such looks: a backlog of them would go round and round. */
const NEWER_SPACING_MS = 20;

export interface StageWorkerOptions<P> extends JobHandlerOptions<P> {
  readonly held: HeldJobs;
  /** A `worker` connection; stays open. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly concurrency: number;
  readonly health: Health;
}

export class StageWorker<P> {
  readonly #options: StageWorkerOptions<P>;
  readonly #handler: JobHandler<P>;
  readonly #worker: Worker;
  readonly #refusal: RedisRefusal;
  readonly #abandoned = new AbortController();
  /** BullMQ's own connection, on which it waits for jobs: a duplicate of ours, which comes back at another time. */
  #blocking: { readonly status: string } | undefined;
  #resting: NodeJS.Timeout | undefined;
  /** When the last of the jobs of a newer release is due. */
  #newerDueAt = 0;

  constructor(options: StageWorkerOptions<P>) {
    this.#options = options;
    this.#handler = new JobHandler(options);
    const { stage, redis, prefix, concurrency, host, logger, health } = options;
    const queue = stage.queueName;
    this.#refusal = new RedisRefusal(health.component(`${queue} worker`), logger.child({ queue }));
    this.#worker = new Worker(queue, (job, token) => this.#process(job, token), {
      connection: redis,
      prefix,
      concurrency,
      autorun: false,
      removeOnComplete: { count: 0 },
      runRetryDelay: REDIS_RETRY_MS,
      ...LOCK_OPTIONS,
    });
    this.#worker.on("stalled", (job) => {
      host.metrics.stalled(queue);
      logger.warn({ queue, job }, "job taken over from a process that died");
    });
    this.#worker.on("failed", (job, err) => logger.error({ queue, job: job?.id, err }, "job failed"));
    this.#worker.on("error", (err) => {
      // The connection logs its own loss; what remains is a refusal, or a lock that was lost while Redis was away.
      logger.debug({ queue, err }, "worker error");
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
    const { host, logger } = this.#options;
    try {
      if (await this.#mustWait(job)) await this.#putOff(job, token, backoffMs(job.attemptsStarted - 1, LOOK));
      const { rest, tries } = await this.#handler.handle(job, token);
      if (rest !== undefined) await this.#hold(job, token, rest, tries);
      await this.#done(job, tries > 0);
    } catch (thrown) {
      if (thrown instanceof DelayedError) throw thrown;
      if (thrown instanceof NewerPayloadError) await this.#holdNewer(job, token, thrown);
      if (thrown instanceof GivenBack) await this.#giveBack(job, token);
      if (thrown instanceof LostJobError) host.holding.done(String(job.id), false);
      const fields = { job: job.id, err: toError(thrown) };
      if (thrown instanceof LetGo) logger.debug(fields, "job let go of");
      else logger.error(fields, "job could not be handled, it will be taken over");
      // BullMQ's way to let go of a job without an outcome. One that was not moved loses its lock and stalls.
      throw new WaitingError();
    }
  }

  /** Nothing waits for what cannot be asked: without Redis the job could not be put off either. */
  async #mustWait(job: Job): Promise<boolean> {
    const { stage, host } = this.#options;
    if (stage.mustWait === undefined || host.rules.drain.begun.aborted || job.attemptsStarted > MAX_LOOKS) return false;
    try {
      return await stage.mustWait(job.data);
    } catch (thrown) {
      if (!(thrown instanceof UnavailableError)) throw thrown;
      return false;
    }
  }

  /** Leaves what is left of a job in its queue. If the sink refuses everything, lets some time pass before the next job is tried. */
  async #hold(job: Job, token: string, { rest, tookSome, as, because, error }: HeldBatch, tries: number): Promise<never> {
    const { host, held } = this.#options;
    const store = async (): Promise<void> => {
      await keepJob(job, token);
      await job.updateData(rest());
      await held.add(job);
    };
    await tryUntilDecided(() => withRedis("holding a batch", store), host.rules);
    if (as === "unavailable") host.holding.addReported(String(job.id));
    else host.holding.add(String(job.id), because, error);
    if (tookSome) host.holding.served();
    if (as === "refused") await host.holding.wait(tries, host.rules.drain.begun);
    if (host.rules.drain.begun.aborted) throw new GivenBack();
    return this.#putOff(job, token, tookSome ? HELD_DELAY.firstMs : backoffMs(job.attemptsStarted - 1, HELD_DELAY));
  }

  /** @throws {DelayedError} */
  async #holdNewer(job: Job, token: string, error: NewerPayloadError): Promise<never> {
    const { host, held, logger } = this.#options;
    host.holding.add(String(job.id), "upgrade this process", error);
    // For the lag alone. It is noted with the next look, if not now.
    await held.add(job).catch((thrown: unknown) => logger.debug({ err: toError(thrown) }, "held job not noted"));
    const now = Date.now();
    this.#newerDueAt = Math.max(now + NEWER_DELAY_MS, this.#newerDueAt + NEWER_SPACING_MS);
    return this.#putOff(job, token, this.#newerDueAt - now);
  }

  async #done(job: Job, served: boolean): Promise<void> {
    const { host, held, logger } = this.#options;
    const id = String(job.id);
    host.holding.done(id, served);
    // A job that is taken for the first time was never held. One that stays noted is found to be gone.
    if (job.attemptsStarted < 2) return;
    await held.remove(id).catch((thrown: unknown) => logger.debug({ err: toError(thrown) }, "held job still noted"));
  }

  /** @throws {DelayedError} BullMQ's way to let go of a job until later. One that was not moved loses its lock and stalls. */
  async #putOff(job: Job, token: string, delayMs: number): Promise<never> {
    try {
      await job.moveToDelayed(Date.now() + delayMs, token);
    } catch (thrown) {
      this.#options.logger.debug({ job: job.id, err: toError(thrown) }, "job not put off, it will be taken over");
    }
    throw new DelayedError();
  }

  async #giveBack(job: Job, token: string): Promise<void> {
    try {
      await job.moveToWait(token);
    } catch (thrown) {
      this.#options.logger.debug({ job: job.id, err: toError(thrown) }, "job not given back, it will be taken over");
    }
  }
}

// Ends a worker, with or without Redis.

/** How long a drain waits for a Redis that is away. */
const REDIS_PATIENCE_MS = 2_000;
/** How long jobs that have been told to stop may take to do so, and to go back to their queue. */
const OVERDUE_PATIENCE_MS = 2_000;
const POLL_MS = 200;

/** Whatever its payloads decode to. */
export type AnyStageWorker = Pick<StageWorker<unknown>, "start" | "close" | "abandon" | "isConnected">;

/**
 * Resolves when the worker has let go of its jobs, or there is no point in waiting for that any longer.
 *
 * @param overdue of the drain: what is under way has to stop.
 */
export async function closeWorker(worker: AnyStageWorker, overdue: AbortSignal, logger: Logger): Promise<void> {
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
