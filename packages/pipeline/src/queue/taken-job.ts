/** A job that this process has taken from a queue. */
import { type Logger, toError } from "@celery-metrics-exporter/runtime";
import type { Job } from "bullmq";
import { LostJobError } from "../contract/errors.ts";
import { LOCK_OPTIONS } from "./bullmq.ts";
import { withRedis } from "./redis-errors.ts";

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
