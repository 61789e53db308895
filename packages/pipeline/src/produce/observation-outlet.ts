/** Puts what a monitor observes into the queue of each exporter that wants it. */
import type { Observation } from "@celery-metrics-exporter/celery";
import type { Logger, Metrics, RedisConnection } from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";
import type { ExporterRegistration } from "../contract/exporters.ts";
import { openQueue, queueIsReady } from "../queue/bullmq.ts";
import { exportersInUse } from "../queue/exporters-in-use.ts";
import { JobList } from "../queue/job-list.ts";
import { JOB_NAMES, MOST_OBSERVATION_JOBS, eventsQueueName } from "../queue/names.ts";
import { encodeObservations } from "../queue/observations.ts";
import { withRedis } from "../queue/redis-errors.ts";

export interface ObservationOutletOptions {
  /** A `producer` connection: a command fails at once if Redis is unavailable. Stays open after `close`. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  /** All registered exporters. Those that do not observe, or whose queue does not exist, get nothing. */
  readonly exporters: readonly ExporterRegistration[];
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export class ObservationOutlet {
  readonly #options: ObservationOutletOptions;
  /** Opened when the exporter is in use, because opening a queue creates it. */
  readonly #queues = new Map<string, Promise<Queue>>();
  readonly #shed;

  constructor(options: ObservationOutletOptions) {
    this.#options = options;
    this.#shed = options.metrics.counter(
      "observations_shed_total",
      "Observations dropped because too many of them waited in an exporter's queue.",
      { exporter: options.exporters.filter(({ observes = false }) => observes).map(({ name }) => name) },
    );
  }

  /**
   * Adds one job to the queue of each exporter in use that observes. The job is next in its queue, because the newest observation counts.
   * If a queue has `MOST_OBSERVATION_JOBS` of them already, nothing is added to it.
   *
   * @throws {UnavailableError} if Redis is unavailable. Some exporters may have got the observations; publish newer ones instead.
   */
  async publish(observations: readonly Observation[]): Promise<void> {
    const { redis, prefix, exporters } = this.#options;
    if (observations.length === 0) return;
    const observing = exporters.filter(({ observes = false }) => observes);
    for (const name of await exportersInUse(redis, prefix, observing)) await this.#add(name, observations);
  }

  /** Safe to call twice. */
  async close(): Promise<void> {
    const queues = await Promise.allSettled(this.#queues.values());
    this.#queues.clear();
    for (const queue of queues) if (queue.status === "fulfilled") await queue.value.close();
  }

  async #add(exporter: string, observations: readonly Observation[]): Promise<void> {
    const queue = await this.#queue(exporter);
    const observed = JobList.observed(this.#options.redis, queue);
    await withRedis(`storing observations for ${exporter}`, async () => {
      if ((await observed.size()) >= MOST_OBSERVATION_JOBS) return this.#shed.inc({ exporter }, observations.length);
      const { id = "", timestamp } = await queue.add(JOB_NAMES.observations, encodeObservations(observations), { lifo: true });
      await observed.add({ id, timestamp });
    });
  }

  #queue(exporter: string): Promise<Queue> {
    const known = this.#queues.get(exporter);
    if (known !== undefined) return known;
    const opening = this.#open(exporter);
    this.#queues.set(exporter, opening);
    return opening;
  }

  async #open(exporter: string): Promise<Queue> {
    const queue = openQueue(eventsQueueName(exporter), this.#options);
    try {
      await queueIsReady(queue);
      return queue;
    } catch (thrown) {
      // It could never be used. The next time, another one is opened.
      this.#queues.delete(exporter);
      await queue.close().catch(() => {});
      throw thrown;
    }
  }
}
