/** Held batches: they are back in their queue, because a sink does not take them or because a newer release has written them. */
import { type ComponentHealth, type Logger, Outage, Repeat, backoffMs, pause } from "@celery-metrics-exporter/runtime";
import type { JobList } from "../queue/job-list.ts";

const BACKOFF = { firstMs: 500, maxMs: 30_000 };
/** Limit of a wait, per try of the sink: a batch of one event needs one try, a large batch about 45. */
const WAIT_PER_TRY_MS = 700;
const POLL_MS = 200;
/** How long after a sink took something it counts as working, so that the worker does not wait. */
const SERVING_MS = 5_000;
/** How often to check whether held batches are still in the queue: other processes may have finished them. */
const LOOK_MS = 30_000;
/** Held jobs that are remembered. It bounds the memory; further jobs are seen again when their turn comes. */
const MOST_JOBS = 10_000;
const LOOKED_AT = 100;

export interface HoldingOptions {
  /** Up until the first batch is held. */
  readonly component: ComponentHealth;
  readonly logger: Logger;
  readonly held: Pick<JobList, "missing">;
  /** Called when no job is held any more, if some were added with `addReported`. */
  readonly onEnd: () => void;
}

/** One per stage of an exporter. Its component is down while batches that this process held are in the queue. */
export class Holding {
  readonly #outage: Outage;
  readonly #held: Pick<JobList, "missing">;
  readonly #looks: Repeat;
  readonly #onEnd: () => void;
  /** The ids of held jobs. */
  readonly #jobs = new Set<string>();
  #isReportedElsewhere = false;
  /** Waits since the sink last took something. */
  #times = 0;
  #servedAt = Number.NEGATIVE_INFINITY;

  constructor({ component, logger, held, onEnd }: HoldingOptions) {
    this.#held = held;
    this.#onEnd = onEnd;
    this.#outage = new Outage({
      component,
      logger,
      began: "batches are held: they stay in the queue and are retried",
      ended: "batches go through again",
    });
    const onError = (err: Error): void => logger.debug({ err }, "held jobs unknown");
    this.#looks = new Repeat(() => this.#forgetMissing(), { everyMs: LOOK_MS, onError });
  }

  /** Notes that a job is held. */
  add(jobId: string, because: string, error: Error): void {
    this.#add(jobId);
    this.#outage.failed({ reason: `${because} (${error.message})`, err: error });
  }

  /** Notes that a job is held for a reason that is reported elsewhere. */
  addReported(jobId: string): void {
    this.#isReportedElsewhere = true;
    this.#add(jobId);
  }

  /**
   * Notes that a job is done, whether it was held or not.
   *
   * @param served whether the sink took something of it. That ends the waiting.
   */
  done(jobId: string, served: boolean): void {
    if (served) this.served();
    if (this.#jobs.delete(jobId)) this.#endIfNone();
  }

  /** Notes that the sink took something. */
  served(): void {
    this.#times = 0;
    this.#servedAt = performance.now();
  }

  /**
   * Waits, longer each time, so that a sink that refuses everything is not tried constantly. Ends early when something gets through, and
   * does not wait if something recently did.
   *
   * @param tries how often the sink was tried for this batch.
   */
  async wait(tries: number, signal: AbortSignal): Promise<void> {
    if (performance.now() - this.#servedAt < SERVING_MS) return;
    this.#times += 1;
    const until = performance.now() + Math.min(backoffMs(this.#times - 1, BACKOFF), Math.max(1, tries) * WAIT_PER_TRY_MS);
    while (this.#times > 0 && performance.now() < until && !signal.aborted) await pause(POLL_MS, signal);
  }

  /** Stops watching and reporting. */
  close(): void {
    void this.#looks.stop();
  }

  #add(jobId: string): void {
    if (this.#jobs.size < MOST_JOBS) this.#jobs.add(jobId);
  }

  /** Forgets jobs that are no longer in the queue, until it finds one that is. */
  async #forgetMissing(): Promise<void> {
    while (this.#jobs.size > 0) {
      const ids = [...this.#jobs].slice(0, LOOKED_AT);
      const missing = await this.#held.missing(ids);
      for (const id of missing) this.#jobs.delete(id);
      if (missing.length < ids.length) break;
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
