/**
 * The gauges of workers and queues. Every name begins with the prefix, `celery.` by default.
 *
 *   workers.up                 how many workers are online; sent even if none was ever heard, but not while that is unknown
 *   worker.online     worker   1 if the worker is online and was heard recently, otherwise 0, until it is forgotten
 *   worker.active     worker   tasks that it is running; 0 if it is not online
 *   queue.length      queue    messages that no worker has taken
 *   queue.consumers   queue    as RabbitMQ counts them; with Redis, the workers that say they consume from the queue
 *   queue.oldest_age  queue    seconds that the oldest of the messages has waited
 *
 * While the receivers of a broker do not listen, it is not known whether a silent worker is online. Then its gauges are not sent.
 */
import { type Logger, Outage, Repeat, toError } from "@celery-metrics-exporter/runtime";
import { type Watched, consumersByQueue, isUp, workersUp } from "@celery-metrics-exporter/task-store";
import type { StatsdClient } from "../agent/statsd-client.ts";
import { type MetricOptions, type Series, SeriesCollector, TagAppender, commonTags } from "../metrics/metrics.ts";

export interface GaugeOptions extends Pick<MetricOptions, "prefix" | "tags"> {
  /** How long a worker that is not heard counts as online, in seconds. */
  readonly workerTimeoutSeconds: number;
}

export class GaugeMapper {
  readonly #options: GaugeOptions;
  readonly #common: string;
  readonly #workerTag: TagAppender;
  readonly #queueTag: TagAppender;

  constructor(options: GaugeOptions) {
    this.#options = options;
    this.#common = commonTags(options.tags);
    const after = this.#common === "" ? "" : `,${this.#common}`;
    this.#workerTag = new TagAppender("worker", { after });
    this.#queueTag = new TagAppender("queue", { after });
  }

  /** @param now seconds since the epoch. */
  seriesOf(watched: Watched, now: number): Series[] {
    const { states, queues, workers, waitingSince } = watched;
    const { workerTimeoutSeconds } = this.#options;
    const series = new SeriesCollector();
    // Names that differ only in what a tag cannot contain, such as capitals, have one gauge.
    const gauge = (name: string, tags: string, value: number, combine = sum): void =>
      series.gauge(`${this.#options.prefix}${name}`, tags, value, combine);
    const up = workersUp(watched, workerTimeoutSeconds, now);
    if (up !== undefined) gauge("workers.up", this.#common, up);
    for (const state of states) {
      const tags = this.#workerTag.append("", state.worker);
      const isOnline = isUp(state, workerTimeoutSeconds, now);
      if (isOnline === undefined) continue;
      gauge("worker.online", tags, isOnline ? 1 : 0, Math.max);
      gauge("worker.active", tags, isOnline ? (state.active ?? 0) : 0);
    }

    const consuming = workers && consumersByQueue(workers.workers);
    const observed = new Map((queues?.queues ?? []).map((queue) => [queue.name, queue]));
    for (const name of new Set([...observed.keys(), ...(consuming?.keys() ?? [])])) {
      const tags = this.#queueTag.append("", name);
      const { messages, consumers = consuming && (consuming.get(name)?.workers ?? 0) } = observed.get(name) ?? {};
      if (messages !== undefined) gauge("queue.length", tags, messages);
      if (consumers !== undefined) gauge("queue.consumers", tags, consumers);
      if (messages === 0) gauge("queue.oldest_age", tags, 0, Math.max);
    }
    for (const [name, since] of waitingSince) {
      if (observed.get(name)?.messages === 0) continue;
      gauge("queue.oldest_age", this.#queueTag.append("", name), Math.max(now - since, 0), Math.max);
    }
    return series.all();
  }
}

function sum(one: number, other: number): number {
  return one + other;
}

export interface GaugesOptions {
  readonly mapper: GaugeMapper;
  readonly statsd: StatsdClient;
  /** Reads what is known now, from Redis. */
  readonly read: () => Promise<Watched>;
  /** Whether this process is the one that sends. Agents on several machines would each report the values as their own, and sums would be wrong. */
  readonly isActive: () => boolean;
  readonly everyMs: number;
  readonly logger: Logger;
}

/** How long a process whose agent did not take the gauges leaves them to the others. */
const UNABLE_MS = 10_000;

/** Sends the gauges periodically, from `start` to `stop`. */
export class Gauges {
  readonly #options: GaugesOptions;
  readonly #outage: Outage;
  #turns: Repeat | undefined;
  #unableUntil = Number.NEGATIVE_INFINITY;

  constructor(options: GaugesOptions) {
    this.#options = options;
    this.#outage = new Outage({
      logger: options.logger,
      began: "the gauges of workers and queues cannot be sent, trying again",
      ended: "the gauges of workers and queues are sent again",
    });
  }

  /** False for a while after its agent did not take the gauges: another process may have another agent. */
  get isAble(): boolean {
    return performance.now() > this.#unableUntil;
  }

  start(): void {
    const { everyMs, logger } = this.#options;
    // An outage of Redis is logged by its connection.
    const onError = (err: Error): void => logger.debug({ err }, "cannot send the gauges for now");
    this.#turns = new Repeat((signal) => this.#turn(signal), { everyMs, onError });
  }

  /** Safe without `start`, and twice. */
  async stop(): Promise<void> {
    await this.#turns?.stop();
  }

  async #turn(signal: AbortSignal): Promise<void> {
    const { mapper, statsd, read, isActive } = this.#options;
    if (!isActive()) return;
    const watched = await read();
    // Reading may take long if Redis is slow, and another process may send by now.
    if (!isActive()) return;
    try {
      await statsd.send(mapper.seriesOf(watched, Date.now() / 1_000), signal);
      this.#outage.served();
    } catch (thrown) {
      if (signal.aborted) return;
      this.#unableUntil = performance.now() + UNABLE_MS;
      // While no task ends, nothing else says that the agent is away.
      this.#outage.failed({ reason: toError(thrown).message });
    }
  }
}
