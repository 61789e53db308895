/** Runs one stage of an exporter: takes the jobs of its queue, delivers their contents, and holds, puts off or gives back the rest. */
import { type Health, type RedisConnection, UnavailableError, backoffMs, toError } from "@celery-metrics-exporter/runtime";
import { LetGo, LostJobError, NewerPayloadError } from "../contract/errors.ts";
import { tryUntilDecided, GivenBack } from "../deliver/tries.ts";
import type { JobList } from "../queue/job-list.ts";
import { QueueWorker, type Fate, type TakenJob } from "../queue/queue-worker.ts";
import { isListenedJobId } from "../queue/names.ts";
import { withRedis } from "../queue/redis-errors.ts";
import { JobHandler, type JobHandlerOptions, timesBegun } from "./job-handler.ts";
import type { HeldBatch } from "./stage.ts";

/** Delay until a job that must wait is checked again. */
const LOOK = { firstMs: 100, maxMs: 1_000 };
/** Checks after which a waiting job runs anyway. Longer than any takeover takes. */
const MAX_LOOKS = 60;
/** Delay of a held job, so that the others get their turn. It grows each time that nothing of the job gets through. */
const HELD_DELAY = { firstMs: 1_000, maxMs: 30_000 };
/** Delay of a job of a newer release. A newer process may take it then. */
const NEWER_DELAY_MS = 5_000;
/** Time between two such jobs, so that a backlog of them does not circulate at full speed. */
const NEWER_SPACING_MS = 20;

export interface StageWorkerOptions<P> extends JobHandlerOptions<P> {
  readonly held: JobList;
  /** Those of the held jobs that may contain events of workers. */
  readonly heldWorkers: JobList;
  /** A `worker` connection; stays open. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly concurrency: number;
  readonly health: Health;
}

/** @returns a worker that has not been started. */
export function stageWorker<P>(options: StageWorkerOptions<P>): QueueWorker {
  const { stage, host, redis, prefix, concurrency, health, logger } = options;
  const queueName = stage.queueName;
  const jobs = new StageJobs(options);
  return new QueueWorker({
    queueName,
    redis,
    prefix,
    concurrency,
    handle: (job) => jobs.handle(job),
    onStalled: () => host.metrics.stalled(queueName),
    component: health.component(`${queueName} worker`),
    logger,
  });
}

class StageJobs<P> {
  readonly #options: StageWorkerOptions<P>;
  readonly #handler: JobHandler<P>;
  /** When the last job of a newer release is due. */
  #newerDueAt = 0;

  constructor(options: StageWorkerOptions<P>) {
    this.#options = options;
    this.#handler = new JobHandler(options);
  }

  async handle(job: TakenJob): Promise<Fate> {
    const { host, logger } = this.#options;
    try {
      if (await this.#mustWait(job)) return await job.putOff(backoffMs(job.starts - 1, LOOK));
      const { rest, tries } = await this.#handler.handle(job);
      if (rest !== undefined) return await this.#hold(job, rest, tries);
      await this.#done(job, tries > 0);
      return "done";
    } catch (thrown) {
      // The next one comes in seconds. There would be many by the time a newer process takes them.
      if (thrown instanceof NewerPayloadError && isListenedJobId(job.id)) {
        host.metrics.droppedObservations(1);
        await this.#done(job, false);
        return "done";
      }
      const fields = { job: job.id, err: toError(thrown) };
      if (thrown instanceof LetGo) logger.debug(fields, "job let go of");
      else logger.error(fields, "could not handle a job: it will be taken over");
      if (thrown instanceof NewerPayloadError) return this.#holdNewer(job, thrown);
      if (thrown instanceof GivenBack) return job.giveBack();
      if (thrown instanceof LostJobError) host.holding.done(job.id, false);
      return "elsewhere";
    }
  }

  /** False if Redis is unavailable: the job could not be put off either. */
  async #mustWait(job: TakenJob): Promise<boolean> {
    const { stage, host } = this.#options;
    if (stage.mustWait === undefined || host.rules.drain.begun.aborted || job.starts > MAX_LOOKS) return false;
    try {
      return await stage.mustWait({ id: job.id, payload: job.payload, begun: timesBegun(job) });
    } catch (thrown) {
      if (!(thrown instanceof UnavailableError)) throw thrown;
      return false;
    }
  }

  /** Puts the rest of a job back into its queue. If the sink refuses everything, pauses before the next job is tried. */
  async #hold(job: TakenJob, { rest, tookSome, hasWorkers, as, because, error }: HeldBatch, tries: number): Promise<Fate> {
    const { host, held, heldWorkers } = this.#options;
    const store = async (): Promise<void> => {
      await job.write(rest());
      await withRedis("holding a batch", async () => {
        await (hasWorkers === true ? heldWorkers.add(job) : heldWorkers.remove(job.id));
        await held.add(job);
      });
    };
    await tryUntilDecided(store, host.rules);
    if (as === "unavailable") host.holding.addReported(job.id);
    else host.holding.add(job.id, because, error);
    if (tookSome) host.holding.served();
    if (as === "refused") await host.holding.wait(tries, host.rules.drain.begun);
    if (host.rules.drain.begun.aborted) throw new GivenBack();
    return job.putOff(tookSome ? HELD_DELAY.firstMs : backoffMs(job.starts - 1, HELD_DELAY));
  }

  async #holdNewer(job: TakenJob, error: NewerPayloadError): Promise<Fate> {
    const { host, held, heldWorkers, logger } = this.#options;
    host.holding.add(job.id, "upgrade this process", error);
    // If this fails, the next try notes it.
    await Promise.all([heldWorkers.add(job), held.add(job)]).catch((thrown: unknown) =>
      logger.debug({ err: toError(thrown) }, "held job not noted"),
    );
    const now = Date.now();
    this.#newerDueAt = Math.max(now + NEWER_DELAY_MS, this.#newerDueAt + NEWER_SPACING_MS);
    return job.putOff(this.#newerDueAt - now);
  }

  async #done(job: TakenJob, served: boolean): Promise<void> {
    const { host, held, heldWorkers, logger } = this.#options;
    host.holding.done(job.id, served);
    // A job that was taken for the first time was never held. If a job stays noted, it is found to be gone later.
    if (job.starts < 2) return;
    await Promise.all([held.remove(job.id), heldWorkers.remove(job.id)]).catch((thrown: unknown) =>
      logger.debug({ err: toError(thrown) }, "held job still noted"),
    );
  }
}
