/** Watches an exporter's queue for the receiver: whether it is full, and whether a processor works on it. */
import type { Logger, Metrics, RedisConnection } from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";
import { JobList } from "../queue/job-list.ts";
import { UNDELIVERED_KEY } from "../queue/names.ts";

/** Share of the mark below which a full queue is no longer full, so that a slightly slow sink does not make it flap. */
const NO_LONGER_FULL_SHARE = 0.9;
/**
 * The weight of an undelivered task. A task usually has four events: sent, received, started and a final one, and counts as much until it
 * is delivered. It takes about 420 bytes of Redis: 370 in the Store, and its id in a job.
 */
const EVENTS_PER_TASK = 4;
/** How long a queue with jobs may be without a worker before that is logged. A restart takes less. */
const UNATTENDED_MS = 60_000;
/**
 * A key that BullMQ's workers write every few seconds and that expires as quickly. `CLIENT LIST` needs more rights and is not always
 * available.
 */
const SIGN_OF_WORKER = "stalled-check";

export class QueueGaugesOfReceiver {
  readonly #events;
  readonly #undelivered;
  readonly #unattended;

  constructor(metrics: Metrics) {
    this.#events = metrics.gauge("queue_events", "Estimate of the events an exporter's queue holds.", ["exporter"]);
    this.#undelivered = metrics.gauge(
      "queue_undelivered_tasks",
      "Estimate of the finished tasks that wait behind an exporter's queue for its sink, as its processors report it.",
      ["exporter"],
    );
    this.#unattended = metrics.gauge(
      "queue_unattended",
      "1 while an exporter's queue holds jobs and no processor has worked on it for a minute.",
      ["exporter"],
    );
  }

  set(exporter: string, { events, undelivered, isUnattended }: QueueState): void {
    this.#events.set({ exporter }, Math.round(events));
    this.#undelivered.set({ exporter }, undelivered);
    this.#unattended.set({ exporter }, isUnattended ? 1 : 0);
  }
}

interface QueueState {
  readonly events: number;
  readonly undelivered: number;
  readonly isUnattended: boolean;
}

export interface QueueWatchOptions {
  readonly exporter: string;
  /** The other exporters in use. */
  readonly others: readonly string[];
  readonly queue: Queue;
  readonly redis: RedisConnection;
  readonly highWaterEvents: number;
  readonly whenFull: "hold" | "shed";
  readonly gauges: QueueGaugesOfReceiver;
  readonly logger: Logger;
  /** Milliseconds. */
  readonly now?: () => number;
}

export class QueueWatch {
  readonly #options: QueueWatchOptions;
  readonly #now: () => number;
  /** Jobs of the queue that are no batches. */
  readonly #observations: readonly JobList[];
  #backlog = new Backlog();
  #isFull = false;
  /** Since when it has had jobs but no worker. */
  #aloneSince: number | undefined;
  #isUnattended = false;

  constructor(options: QueueWatchOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    const { redis, queue } = options;
    this.#observations = [JobList.listened(redis, queue), JobList.observed(redis, queue)];
  }

  /** True from the mark on, until well below it. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** For `/readyz`. */
  get description(): string {
    return `\`${this.#options.exporter}\`${this.#isUnattended ? `, which has no processor: ${this.#remedy()}` : ""}`;
  }

  /** @param meanBatch events per job that is already in the queue. */
  begin(meanBatch: number): void {
    this.#backlog = new Backlog(meanBatch);
  }

  added(events: number, jobs: number): void {
    this.#backlog.added(events, jobs);
  }

  /**
   * Checks the queue.
   *
   * @param workersShow false while Redis takes no writes, because workers cannot leave a sign then.
   */
  async refresh(workersShow: boolean): Promise<void> {
    const { queue, redis, gauges, exporter } = this.#options;
    const [counts, signs, undeliveredTasks, ...observations] = await Promise.all([
      queue.getJobCounts("wait", "delayed", "active"),
      redis.exists(queue.toKey(SIGN_OF_WORKER)),
      redis.get(queue.toKey(UNDELIVERED_KEY)),
      ...this.#observations.map((list) => list.size()),
    ]);
    const jobs = Object.values(counts).reduce((sum, count) => sum + count, 0);
    const undelivered = Number(undeliveredTasks ?? 0);
    const batches = observations.reduce((rest, count) => rest - count, jobs);
    this.#backlog.counted(Math.max(0, batches));
    this.#judgeAttendance(jobs, signs > 0 || !workersShow);
    this.#judgeFullness(undelivered);
    gauges.set(exporter, { events: this.#backlog.events, undelivered, isUnattended: this.#isUnattended });
  }

  #judgeFullness(undelivered: number): void {
    const { exporter, highWaterEvents, whenFull, logger } = this.#options;
    const total = this.#backlog.events + undelivered * EVENTS_PER_TASK;
    const isFull = total >= highWaterEvents * (this.#isFull ? NO_LONGER_FULL_SHARE : 1);
    if (isFull === this.#isFull) return;
    this.#isFull = isFull;
    const fields = { exporter, events: Math.round(this.#backlog.events), undeliveredTasks: undelivered, whenFull };
    if (isFull) logger.warn({ ...fields, advice: this.#advice(undelivered) }, "exporter queue past its high-water mark");
    else logger.info(fields, "exporter queue below its high-water mark again");
  }

  #judgeAttendance(jobs: number, isAttended: boolean): void {
    const { exporter, logger } = this.#options;
    if (isAttended || jobs === 0) this.#aloneSince = undefined;
    else this.#aloneSince ??= this.#now();
    const isUnattended = this.#aloneSince !== undefined && this.#now() - this.#aloneSince >= UNATTENDED_MS;
    if (isUnattended === this.#isUnattended) return;
    this.#isUnattended = isUnattended;
    const fields = { exporter, events: Math.round(this.#backlog.events) };
    if (isUnattended)
      logger.warn({ ...fields, advice: this.#remedy() }, `no processor works on the queue \`${exporter}\`, which only grows`);
    else logger.info(fields, `the queue \`${exporter}\` has a processor again, or is empty`);
  }

  #advice(undelivered: number): string {
    const { exporter, whenFull, highWaterEvents } = this.#options;
    if (this.#isUnattended) return this.#remedy();
    const waitsForSink = undelivered * EVENTS_PER_TASK > highWaterEvents / 2;
    const cause = waitsForSink
      ? `the sink of ${exporter} accepts nothing: see /readyz of the ${exporter}-processor`
      : `see /readyz of the ${exporter}-processor, or start more of them`;
    return whenFull === "hold" ? `${cause}; with QUEUE_FULL=shed the other exporters continue` : cause;
  }

  #remedy(): string {
    const { exporter, others } = this.#options;
    const start = `start a ${exporter}-processor`;
    return others.length === 0 ? start : `${start}, or leave ${exporter} out with EXPORTERS=${others.join()}`;
  }
}

/**
 * Estimates how many events a queue contains, without reading them. Redis only knows the number of jobs. The estimate keeps the mean batch
 * size of the queue: jobs that this process adds change the mean by their true size; jobs that leave, or that other receivers add, are
 * assumed to have the mean size. With a single receiver, this is exact as long as batches leave evenly. Several receivers of one broker
 * make similar batches.
 */
export class Backlog {
  #jobs = 0;
  #events = 0;
  /** An empty queue keeps the mean of its last jobs. */
  #mean: number;

  /** @param meanBatch events per job that is already in the queue. */
  constructor(meanBatch = 1) {
    this.#mean = meanBatch;
  }

  get events(): number {
    return this.#events;
  }

  /** Notes that this process added events, in so many jobs. */
  added(events: number, jobs = 1): void {
    // Without a job, the mean does not change.
    if (jobs === 0) return;
    this.#jobs += jobs;
    this.#events += events;
    this.#mean = this.#events / this.#jobs;
  }

  /** Notes how many batches are waiting, delayed or active, according to Redis. */
  counted(jobs: number): void {
    this.#jobs = jobs;
    this.#events = jobs * this.#mean;
  }
}
