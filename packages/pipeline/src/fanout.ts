/** Hands every batch of the receiver to each exporter's queue. */
import type { CeleryEvent } from "@celery-metrics-exporter/events";
import { UnavailableError, redisProblem, toError, type Logger, type Metrics, type RedisConnection } from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";
import { Backlog } from "./backlog.ts";
import { decodeBatch, type BatchPayload, type EventBatch } from "./batch.ts";
import type { ExporterRegistration } from "./exporters.ts";
import { JOB_NAMES } from "./job-names.ts";
import { openQueue, queueIsReady } from "./open-queue.ts";
import { payloadsOf } from "./payloads.ts";
import { eventsQueueName } from "./queue-names.ts";
import { isOutOfMemory, withRedis } from "./redis-errors.ts";
import { RedisMemory } from "./redis-memory.ts";

const REFRESH_MS = 1_000;
/** How many of the jobs that a queue holds at start are opened to learn their mean size. */
const SAMPLED_JOBS = 10;

export interface FanoutOptions {
  /** A `producer` connection: a command fails at once when Redis is away. Stays open after `close`. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly exporters: readonly ExporterRegistration[];
  /**
   * What happens past the high-water mark of a queue. `hold`: everything is stored, and `isFull` asks the receiver to stop taking. `shed`:
   * what that exporter would get is dropped and counted, the others go on.
   */
  readonly whenFull: "hold" | "shed";
  /** The high-water mark of each queue, in events waiting, delayed or active. */
  readonly highWaterEvents: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** An exporter as the receiver sees it: the queue in front of it. */
interface Outlet {
  readonly name: string;
  readonly takes: ReadonlySet<string>;
  readonly omits: ReadonlySet<string>;
  readonly queue: Queue;
  backlog: Backlog;
  full: boolean;
}

export class Fanout {
  readonly #options: FanoutOptions;
  readonly #outlets: readonly Outlet[];
  readonly #taken: ReadonlySet<string>;
  readonly #memory: RedisMemory;
  readonly #enqueued;
  readonly #shed;
  readonly #depth;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: FanoutOptions) {
    this.#options = options;
    this.#memory = new RedisMemory(options.redis);
    this.#outlets = options.exporters.map(({ name, takes, omits = [] }) => ({
      name,
      takes: new Set<string>(takes),
      omits: new Set(omits),
      queue: openQueue(eventsQueueName(name), options),
      backlog: new Backlog(),
      full: false,
    }));
    this.#taken = new Set(this.#outlets.flatMap(({ takes }) => [...takes]));
    const { metrics } = options;
    this.#enqueued = metrics.counter("events_enqueued_total", "Events put on an exporter's queue.", ["exporter"]);
    this.#shed = metrics.counter("events_shed_total", "Events dropped because an exporter's queue was full.", ["exporter"]);
    this.#depth = metrics.gauge("queue_events", "Estimate of the events an exporter's queue holds.", ["exporter"]);
  }

  /**
   * Learns what the queues hold, and goes on watching.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async start(): Promise<void> {
    for (const { queue } of this.#outlets) await queueIsReady(queue);
    await withRedis("reading the queues", async () => {
      for (const outlet of this.#outlets) {
        outlet.backlog = new Backlog(await meanBatch(outlet.queue));
      }
      await this.#refresh();
    });
    this.#watch();
  }

  /** Whether any exporter wants events of this type. */
  takes(type: string): boolean {
    return this.#taken.has(type);
  }

  /**
   * Resolves when every exporter's queue holds what the exporter takes of the batch.
   *
   * @throws {UnavailableError} when Redis did not take all of it: call again with the same batch. Queues that had it get it twice, which
   * exporters bear.
   */
  async enqueue(batch: EventBatch): Promise<void> {
    const results = await Promise.allSettled(this.#outlets.map((outlet) => this.#put(outlet, batch)));
    const failure = results.find((result) => result.status === "rejected");
    if (failure !== undefined) throw failure.reason;
  }

  /**
   * Whether to take nothing more from the broker: Redis is about to run out of memory, or, with `hold`, a queue is past its high-water mark.
   * Refreshed about every second.
   */
  isFull(): boolean {
    return this.#memory.isFull || (this.#options.whenFull === "hold" && this.#outlets.some(({ full }) => full));
  }

  /** Stops watching. Safe without `start`, and safe twice. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await Promise.all(this.#outlets.map(({ queue }) => queue.close()));
  }

  async #put(outlet: Outlet, batch: EventBatch): Promise<void> {
    const events = batch.events.filter(({ type }) => outlet.takes.has(type));
    const excluded = batch.excluded ?? [];
    const isShed = outlet.full && this.#options.whenFull === "shed";
    const stored = isShed ? [] : events;
    let jobs = 0;
    // An exclusion is told only once, and few bytes: shed, it would leave what the exporter has of the task for ever.
    if (stored.length > 0 || excluded.length > 0) {
      for (const payload of payloadsOf({ ...batch, events: stored }, outlet.omits)) {
        await this.#store(outlet, payload);
        jobs += 1;
      }
    }
    outlet.backlog.added(stored.length, jobs);
    this.#enqueued.inc({ exporter: outlet.name }, stored.length);
    if (isShed) this.#shed.inc({ exporter: outlet.name }, events.length);
  }

  async #store(outlet: Outlet, payload: BatchPayload): Promise<void> {
    try {
      await outlet.queue.add(JOB_NAMES.batch, payload);
    } catch (thrown) {
      const error = toError(thrown);
      if (isOutOfMemory(error)) this.#memory.refused();
      throw new UnavailableError(`Redis did not take a batch for ${outlet.name} (${redisProblem(error)})`, { cause: error });
    }
  }

  #watch(): void {
    this.#timer = setTimeout(() => {
      this.#refresh()
        // Redis is away: nothing can be stored either, and what was known last stands.
        .catch((thrown: unknown) => this.#options.logger.debug({ err: toError(thrown) }, "queue lengths unknown"))
        .finally(() => {
          if (this.#timer !== undefined) this.#watch();
        });
    }, REFRESH_MS).unref();
  }

  async #refresh(): Promise<void> {
    await Promise.all(this.#outlets.map((outlet) => this.#measure(outlet)));
    await this.#memory.refresh();
  }

  async #measure(outlet: Outlet): Promise<void> {
    const counts = await outlet.queue.getJobCounts("wait", "delayed", "active");
    outlet.backlog.counted(Object.values(counts).reduce((sum, count) => sum + count, 0));
    const { events } = outlet.backlog;
    const full = events >= this.#options.highWaterEvents;
    if (full !== outlet.full) {
      const { whenFull, logger } = this.#options;
      const fields = { exporter: outlet.name, events: Math.round(events), whenFull };
      if (full) logger.warn(fields, "queue past its high-water mark");
      else logger.info(fields, "queue below its high-water mark again");
      outlet.full = full;
    }
    this.#depth.set({ exporter: outlet.name }, Math.round(events));
  }
}

/** Events per job among the oldest jobs of a queue; 1 when it has none. */
async function meanBatch(queue: Queue): Promise<number> {
  const jobs = await queue.getJobs(["wait"], 0, SAMPLED_JOBS - 1, true);
  const sizes = jobs.map((job) => sizeOf(job.data));
  return sizes.length === 0 ? 1 : sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
}

function sizeOf(payload: unknown): number {
  try {
    const events: readonly CeleryEvent[] = decodeBatch(payload).events;
    return events.length;
  } catch {
    return 1;
  }
}
