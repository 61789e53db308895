/** Puts every batch of the receiver into each exporter's queue. */
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
import { createHash } from "node:crypto";
import { type BatchPayload, type EventBatch, decodeBatch, payloadsOf } from "../queue/batch.ts";
import type { ExporterRegistration } from "../contract/exporters.ts";
import { JOB_NAMES, MOST_OBSERVATION_JOBS, SHED_KEY, eventsQueueName, listenedJobId } from "../queue/names.ts";
import { JobList } from "../queue/job-list.ts";
import { MOST_SOURCE_CHARACTERS, encodeObservations } from "../queue/observations.ts";
import { openQueue, queueIsReady } from "../queue/bullmq.ts";
import { QueueGaugesOfReceiver, QueueWatch } from "./queue-watch.ts";
import { withRedis } from "../queue/redis-errors.ts";
import { RedisMemory } from "../queue/redis-memory.ts";

const REFRESH_MS = 1_000;
/** Jobs of a queue that are opened at startup to learn their mean size. */
const SAMPLED_JOBS = 10;

export interface FanoutOptions {
  /** A `producer` connection: a command fails at once if Redis is unavailable. Stays open after `close`. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly exporters: readonly ExporterRegistration[];
  /**
   * What happens past the high-water mark of a queue. `hold`: everything is stored, and `fullBecause` asks the receiver to stop consuming.
   * `shed`: that exporter's events are dropped and counted; the other exporters continue.
   */
  readonly whenFull: "hold" | "shed";
  /** The high-water mark of each queue, in events that are waiting, delayed or active. A task that is not delivered yet counts as four. */
  readonly highWaterEvents: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** The receiver's view of an exporter: the queue in front of it. */
interface Outlet {
  readonly name: string;
  readonly takes: ReadonlySet<string>;
  readonly omits: ReadonlySet<string>;
  readonly observes: boolean;
  readonly queue: Queue;
  readonly watch: QueueWatch;
  /** The jobs with which receivers report that they listened. */
  readonly listened: JobList;
  /** When the last events that this process shed were received. Seconds since the epoch. */
  shedAt: number;
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
    this.#outlets = options.exporters.map(({ name, takes, omits = [], observes = false }) => {
      const queue = openQueue(eventsQueueName(name), options);
      const others = options.exporters.map((exporter) => exporter.name).filter((other) => other !== name);
      const listened = JobList.listened(options.redis, queue);
      const watch = new QueueWatch({ ...options, exporter: name, others, queue, gauges });
      return { name, takes: new Set<string>(takes), omits: new Set(omits), observes, queue, watch, listened, shedAt: 0 };
    });
    this.#taken = new Set(this.#outlets.flatMap(({ takes }) => [...takes]));
    const { metrics } = options;
    const labels = { exporter: this.#outlets.map(({ name }) => name) };
    this.#enqueued = metrics.counter("events_enqueued_total", "Events put on an exporter's queue.", labels);
    this.#shed = metrics.counter("events_shed_total", "Events dropped because an exporter's queue was full.", labels);
  }

  /**
   * Reads the queues' state, and starts watching them.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async start(): Promise<void> {
    for (const { queue } of this.#outlets) await queueIsReady(queue);
    await withRedis("reading the queues", async () => {
      for (const { queue, watch } of this.#outlets) watch.begin(await meanBatch(queue));
      await this.#refresh();
    });
    this.#refreshing = new Repeat(() => this.#refresh(), {
      everyMs: REFRESH_MS,
      // Redis is unavailable, so nothing can be stored either. The last known lengths stay valid.
      onError: (err) => this.#options.logger.debug({ err }, "queue lengths unknown"),
    });
  }

  /** Whether any exporter wants events of this type. */
  takes(type: string): boolean {
    return this.#taken.has(type);
  }

  /**
   * Resolves when every exporter's queue contains the events of the batch that the exporter takes.
   *
   * @throws {UnavailableError} if Redis did not take all of it. Call again with the same batch. Some queues then get it twice, which
   * exporters tolerate.
   */
  async enqueue(batch: EventBatch): Promise<void> {
    const results = await Promise.allSettled(this.#outlets.map((outlet) => this.#put(outlet, batch)));
    const failure = results.find((result) => result.status === "rejected");
    if (failure !== undefined) throw failure.reason;
    for (const result of results) if (result.status === "fulfilled") this.#shed.inc({ exporter: result.value.exporter }, result.value.shed);
  }

  /**
   * Reports to every exporter that observes that all events of this time were enqueued. If a receiver shed events of an exporter meanwhile, this one or
   * another, it gets the time since. While such a job of this source waits in a queue, this adds none to it for some minutes.
   *
   * @param time in seconds since the epoch, by the clock of `receivedAt`.
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async reportListened(source: string, time: { readonly since: number; readonly until: number }): Promise<void> {
    const id = listenedJobId(source, time.until);
    const { redis } = this.#options;
    for (const { name, observes, queue, watch, listened, shedAt } of this.#outlets) {
      if (!observes || this.#isShedding(watch)) continue;
      await withRedis(`storing for ${name} that this receiver listens`, async () => {
        const since = Math.max(time.since, shedAt, Number(await redis.get(queue.toKey(SHED_KEY))));
        if (since >= time.until) return;
        const payload = encodeObservations([{ type: "listened", source: shortened(source), since, timestamp: time.until }]);
        await queue.add(JOB_NAMES.observations, payload, { jobId: id });
        await listened.add({ id, timestamp: time.until * 1_000 });
      });
    }
  }

  /**
   * Why the receiver should stop consuming: Redis is about to run out of memory, or, with `hold`, a queue is past its high-water mark.
   * Undefined if there is no reason. Refreshed about every second.
   */
  fullBecause(): string | undefined {
    const memory = this.#memory.problem;
    if (memory !== undefined || this.#options.whenFull !== "hold") return memory;
    const full = this.#outlets.filter(({ watch }) => watch.isFull).map(({ watch }) => watch.description);
    return full.length === 0 ? undefined : `an exporter queue is full: ${full.join("; ")}`;
  }

  /** Stops watching. Safe to call without `start`, and twice. */
  async close(): Promise<void> {
    void this.#refreshing?.stop();
    await Promise.all(this.#outlets.map(({ queue }) => queue.close()));
  }

  /** Returns the number of shed events. The caller counts them once all outlets have succeeded, because otherwise the batch comes again. */
  async #put(outlet: Outlet, batch: EventBatch): Promise<{ exporter: string; shed: number }> {
    const events = batch.events.filter(({ type }) => outlet.takes.has(type));
    const marked = batch.marked ?? [];
    const isShed = this.#isShedding(outlet.watch);
    if (isShed && events.length > 0) await this.#noteShed(outlet, batch.receivedAt ?? Date.now() / 1_000);
    const stored = isShed ? [] : events;
    let jobs = 0;
    // Marked tasks are never shed. An exclusion is marked only once and takes few bytes; without it, the exporter would keep the task
    // forever.
    if (stored.length > 0 || marked.length > 0) {
      for (const payload of payloadsOf({ ...batch, events: stored }, outlet.omits)) {
        await this.#store(outlet, payload);
        jobs += 1;
      }
    }
    outlet.watch.added(stored.length, jobs);
    this.#enqueued.inc({ exporter: outlet.name }, stored.length);
    return { exporter: outlet.name, shed: events.length - stored.length };
  }

  /** Also for the other receivers: one of them may take over, or has part of the events. */
  async #noteShed(outlet: Outlet, at: number): Promise<void> {
    outlet.shedAt = Math.max(outlet.shedAt, at);
    try {
      await this.#options.redis.set(outlet.queue.toKey(SHED_KEY), String(outlet.shedAt));
    } catch (thrown) {
      // Redis is full, or away. Shedding must go on, and nobody can report meanwhile.
      this.#options.logger.debug({ err: toError(thrown) }, "not noted that events were shed");
    }
  }

  #isShedding(watch: QueueWatch): boolean {
    return watch.isFull && this.#options.whenFull === "shed";
  }

  async #store(outlet: Outlet, payload: BatchPayload): Promise<void> {
    try {
      // By the same clock as what receivers report, which is compared with it.
      const { receivedAt } = payload;
      await outlet.queue.add(JOB_NAMES.batch, payload, receivedAt === undefined ? {} : { timestamp: Math.round(receivedAt * 1_000) });
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

/** A text that differs from those of other sources. */
function shortened(source: string): string {
  if (source.length <= MOST_SOURCE_CHARACTERS) return source;
  const hash = createHash("sha256").update(source).digest("base64url");
  return `${source.slice(0, MOST_SOURCE_CHARACTERS - hash.length - 1)}…${hash}`;
}

/** Events per batch among the oldest batches of a queue; 1 if it has none. Observations may be in front of them. */
async function meanBatch(queue: Queue): Promise<number> {
  const jobs = await queue.getJobs(["wait"], 0, SAMPLED_JOBS + MOST_OBSERVATION_JOBS - 1, true);
  const batches = jobs.filter(({ name }) => name !== JOB_NAMES.observations).slice(0, SAMPLED_JOBS);
  const sizes = batches.map((job) => sizeOf(job.data));
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
