/** Runs one stage of an exporter as a BullMQ worker: takes jobs, keeps them until they are done, and never lets one end in `failed`. */
import {
  UnavailableError,
  backoffMs,
  pause,
  redisProblem,
  toError,
  type Health,
  type Logger,
  type RedisConnection,
} from "@celery-metrics-exporter/runtime";
import { DelayedError, WaitingError, Worker, type Job, type Queue } from "bullmq";
import { tryUntilDecided } from "./deliver.ts";
import { GivenBack } from "./drain.ts";
import { NewerPayloadError, PermanentError } from "./errors.ts";
import { RedisRefusal } from "./redis-refusal.ts";
import type { Host } from "./host.ts";
import { JOB_NAMES } from "./job-names.ts";
import { judge } from "./quarantine.ts";
import { withRedis } from "./redis-errors.ts";
import { NotAloneError, type Solitude } from "./solitude.ts";
import type { HeldBatch, Stage, StageJob } from "./stage.ts";
import { LOCK_OPTIONS, REDIS_RETRY_MS } from "./takeover.ts";

const RECONNECT_POLL_MS = 50;

/** When a job that must wait is looked at again. */
const LOOK = { firstMs: 100, maxMs: 1_000 };
/** Then it runs all the same. Longer than any takeover takes. */
const MAX_LOOKS = 60;
/** A job that is held goes to the end of its queue, so that others get their turn. */
const HELD_DELAY_MS = 1_000;
/** When a job that has to run alone, and could not, tries again. Waiting to be alone holds up the others. */
const ALONE_AGAIN = { firstMs: 1_000, maxMs: 30_000 };
/** A newer process may take the job meanwhile. */
const NEWER_DELAY_MS = 5_000;

export interface StageWorkerOptions<P> {
  readonly stage: Stage<P>;
  readonly host: Host;
  /** The same queue, for the parts of a job that is split. */
  readonly queue: Queue;
  /** A `worker` connection; stays open. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly concurrency: number;
  /** Shared by all that runs in the process. */
  readonly solitude: Solitude;
  readonly logger: Logger;
  readonly health: Health;
}

export class StageWorker<P> {
  readonly #options: StageWorkerOptions<P>;
  readonly #worker: Worker;
  readonly #refusal: RedisRefusal;
  readonly #abandoned = new AbortController();
  /** BullMQ's own connection, on which it waits for jobs: a duplicate of ours, which comes back at another time. */
  #blocking: { readonly status: string } | undefined;
  #resting: NodeJS.Timeout | undefined;

  constructor(options: StageWorkerOptions<P>) {
    this.#options = options;
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

  async #process(job: Job, token: string | undefined): Promise<void> {
    const { host, logger } = this.#options;
    try {
      if (await this.#mustWait(job)) await this.#putOff(job, token, backoffMs(job.attemptsStarted - 1, LOOK));
      const held = await this.#handle(job);
      if (held !== undefined) await this.#hold(job, token, held);
      host.holding.done(String(job.id));
    } catch (thrown) {
      if (thrown instanceof DelayedError) throw thrown;
      if (thrown instanceof NewerPayloadError) {
        host.holding.add(String(job.id), "upgrade this process", thrown);
        await this.#putOff(job, token, NEWER_DELAY_MS);
      }
      if (thrown instanceof NotAloneError) await this.#putOff(job, token, backoffMs(job.attemptsStarted - 1, ALONE_AGAIN));
      if (thrown instanceof GivenBack) await this.#giveBack(job, token);
      else logger.error({ job: job.id, err: toError(thrown) }, "job could not be handled, it will be taken over");
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

  async #handle(job: Job): Promise<HeldBatch | undefined> {
    const { stage, solitude, host } = this.#options;
    if (host.rules.drain.begun.aborted) throw new GivenBack();
    const batch = await this.#decode(job);
    if (batch === undefined) return undefined;
    const deaths = deathsOf(job);
    const history = { suspect: job.name === JOB_NAMES.suspect, stalls: job.stalledCounter, deaths, size: stage.size(batch) };
    const run = (attempt: StageJob["attempt"]): Promise<HeldBatch | undefined> =>
      stage.run(batch, { id: String(job.id), payload: job.data as unknown, attempt });
    switch (judge(history)) {
      case "run":
        return run((task) => solitude.beside(task));
      case "alone":
        return run((task) =>
          solitude.alone(
            task,
            () => this.#note(job, deaths + 1),
            () => this.#note(job, deaths),
          ),
        );
      case "split":
        await this.#split(batch, job.timestamp);
        return undefined;
      case "bury":
        await tryUntilDecided(() => stage.bury(batch, "crash", "the process died each time it had only this"), host.rules);
        return undefined;
    }
  }

  /** Notes how often the process has died while it ran this job alone, counting the try that begins now. */
  async #note(job: Job, deaths: number): Promise<void> {
    const { host } = this.#options;
    await tryUntilDecided(() => withRedis("noting a try", () => job.updateProgress({ deaths })), host.rules);
  }

  /** Leaves what is left of a job in its queue, and lets some time pass before the next job is tried. */
  async #hold(job: Job, token: string | undefined, { rest, because, error }: HeldBatch): Promise<never> {
    const { host } = this.#options;
    host.holding.add(String(job.id), because, error);
    await tryUntilDecided(() => withRedis("holding a batch", () => job.updateData(rest)), host.rules);
    await host.holding.wait(host.rules.drain.begun);
    if (host.rules.drain.begun.aborted) throw new GivenBack();
    return this.#putOff(job, token, HELD_DELAY_MS);
  }

  async #decode(job: Job): Promise<P | undefined> {
    const { stage, host } = this.#options;
    try {
      return stage.decode(job.data);
    } catch (thrown) {
      if (!(thrown instanceof PermanentError)) throw thrown;
      const letter = { source: host.name, reason: "payload", detail: thrown.message, payload: job.data as unknown };
      await tryUntilDecided(() => host.deadLetters.add([letter]), host.rules);
      return undefined;
    }
  }

  /** The parts are stored before the job completes: a kill in between repeats them, and loses nothing. */
  async #split(batch: P, timestamp: number): Promise<void> {
    const { stage, host, queue, logger } = this.#options;
    logger.warn(
      { queue: stage.queueName, size: stage.size(batch) },
      "the process died several times with this job, its parts will run alone",
    );
    const jobs = stage.split(batch).map((data) => ({ name: JOB_NAMES.suspect, data, opts: { timestamp } }));
    await tryUntilDecided(() => withRedis("splitting a job", async () => void (await queue.addBulk(jobs))), host.rules);
    host.rules.onSplit();
  }

  /** @throws {DelayedError} BullMQ's way to let go of a job until later. One that was not moved loses its lock and stalls. */
  async #putOff(job: Job, token: string | undefined, delayMs: number): Promise<never> {
    try {
      await job.moveToDelayed(Date.now() + delayMs, token);
    } catch (thrown) {
      this.#options.logger.debug({ job: job.id, err: toError(thrown) }, "job not put off, it will be taken over");
    }
    throw new DelayedError();
  }

  async #giveBack(job: Job, token: string | undefined): Promise<void> {
    try {
      await job.moveToWait(token);
    } catch (thrown) {
      this.#options.logger.debug({ job: job.id, err: toError(thrown) }, "job not given back, it will be taken over");
    }
  }
}

/** What `#note` has written. */
function deathsOf({ progress }: Job): number {
  const deaths = typeof progress === "object" && "deaths" in progress ? progress.deaths : 0;
  return typeof deaths === "number" ? deaths : 0;
}
