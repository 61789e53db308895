/** Hands every batch of the receiver to each exporter's queue. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import {
  type Logger,
  type Metrics,
  type RedisConnection,
  Repeat,
  isOutOfMemory,
  redisUnavailable,
  toError,
} from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";
import { type BatchPayload, type EventBatch, decodeBatch, payloadsOf } from "../queue/batch.ts";
import type { ExporterRegistration } from "../contract/exporters.ts";
import { JOB_NAMES, eventsQueueName } from "../queue/names.ts";
import { openQueue, queueIsReady } from "../queue/bullmq.ts";
import { QueueGaugesOfReceiver, QueueWatch } from "./queue-watch.ts";
import { withRedis } from "../queue/redis-errors.ts";
import { RedisMemory } from "../queue/redis-memory.ts";

const REFRESH_MS = 1_000;
/** How many of the jobs that a queue holds at start are opened to learn their mean size. */
const SAMPLED_JOBS = 10;

export interface FanoutOptions {
  /** A `producer` connection: a command fails at once when Redis is away. Stays open after `close`. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly exporters: readonly ExporterRegistration[];
  /**
   * What happens past the high-water mark of a queue. `hold`: everything is stored, and `fullBecause` asks the receiver to stop taking.
   * `shed`: what that exporter would get is dropped and counted, the others go on.
   */
  readonly whenFull: "hold" | "shed";
  /** The high-water mark of each queue, in events waiting, delayed or active; a task that is not delivered yet counts as four. */
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
  readonly watch: QueueWatch;
}

export class Fanout {
  readonly #options: FanoutOptions;
  readonly #outlets: readonly Outlet[];
  readonly #taken: ReadonlySet<string>;
  readonly #memory: RedisMemory;
  readonly #enqueued;
  readonly #shed;
  /** Whether Redis took the last batch. */
  #isStoring = true;
  #refreshing: Repeat | undefined;

  constructor(options: FanoutOptions) {
    this.#options = options;
    this.#memory = new RedisMemory(options.redis);
    const gauges = new QueueGaugesOfReceiver(options.metrics);
    this.#outlets = options.exporters.map(({ name, takes, omits = [] }) => {
      const queue = openQueue(eventsQueueName(name), options);
      const others = options.exporters.map((exporter) => exporter.name).filter((other) => other !== name);
      const watch = new QueueWatch({ ...options, exporter: name, others, queue, gauges });
      return { name, takes: new Set<string>(takes), omits: new Set(omits), queue, watch };
    });
    this.#taken = new Set(this.#outlets.flatMap(({ takes }) => [...takes]));
    const { metrics } = options;
    this.#enqueued = metrics.counter("events_enqueued_total", "Events put on an exporter's queue.", ["exporter"]);
    this.#shed = metrics.counter("events_shed_total", "Events dropped because an exporter's queue was full.", ["exporter"]);
  }

  /**
   * Learns what the queues hold, and goes on watching.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async start(): Promise<void> {
    for (const { queue } of this.#outlets) await queueIsReady(queue);
    await withRedis("reading the queues", async () => {
      for (const { queue, watch } of this.#outlets) watch.begin(await meanBatch(queue));
      await this.#refresh();
    });
    this.#refreshing = new Repeat(() => this.#refresh(), {
      everyMs: REFRESH_MS,
      // Redis is away: nothing can be stored either, and what was known last stands.
      onError: (err) => this.#options.logger.debug({ err }, "queue lengths unknown"),
    });
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
    for (const result of results) if (result.status === "fulfilled") this.#shed.inc({ exporter: result.value.exporter }, result.value.shed);
  }

  /**
   * Why to take nothing more from the broker: Redis is about to run out of memory, or, with `hold`, a queue is past its high-water mark.
   * Undefined where there is no reason. Refreshed about every second.
   */
  fullBecause(): string | undefined {
    const memory = this.#memory.problem;
    if (memory !== undefined || this.#options.whenFull !== "hold") return memory;
    const full = this.#outlets.filter(({ watch }) => watch.isFull).map(({ watch }) => watch.description);
    return full.length === 0 ? undefined : `a queue is full: ${full.join("; ")}`;
  }

  /** Stops watching. Safe without `start`, and safe twice. */
  async close(): Promise<void> {
    void this.#refreshing?.stop();
    await Promise.all(this.#outlets.map(({ queue }) => queue.close()));
  }

  /** How many events were shed is counted once for all outlets are through: the batch comes again if one is not. */
  async #put(outlet: Outlet, batch: EventBatch): Promise<{ exporter: string; shed: number }> {
    const events = batch.events.filter(({ type }) => outlet.takes.has(type));
    const told = batch.told ?? [];
    const isShed = outlet.watch.isFull && this.#options.whenFull === "shed";
    const stored = isShed ? [] : events;
    let jobs = 0;
    // An exclusion is told only once, and few bytes: shed, it would leave what the exporter has of the task for ever.
    if (stored.length > 0 || told.length > 0) {
      for (const payload of payloadsOf({ ...batch, events: stored }, outlet.omits)) {
        await this.#store(outlet, payload);
        jobs += 1;
      }
    }
    outlet.watch.added(stored.length, jobs);
    this.#enqueued.inc({ exporter: outlet.name }, stored.length);
    return { exporter: outlet.name, shed: events.length - stored.length };
  }

  async #store(outlet: Outlet, payload: BatchPayload): Promise<void> {
    try {
      await outlet.queue.add(JOB_NAMES.batch, payload);
      this.#isStoring = true;
    } catch (thrown) {
      this.#isStoring = false;
      const error = toError(thrown);
      if (isOutOfMemory(error)) this.#memory.refused();
      throw redisUnavailable(`storing a batch for ${outlet.name}`, error);
    }
  }

  async #refresh(): Promise<void> {
    await this.#memory.refresh();
    const workersShow = this.#isStoring && this.#memory.problem === undefined;
    await Promise.all(this.#outlets.map(({ watch }) => watch.refresh(workersShow)));
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
