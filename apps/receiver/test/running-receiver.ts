/** A running receiver on real servers, with its own queue names. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { EXPORTERS, decodeBatch, type DeadLetter, type EventBatch } from "@celery-metrics-exporter/pipeline";
import { startRoles, type RunningRoles } from "@celery-metrics-exporter/runtime";
import { sharedRabbitmqUrl, sharedRedisUrl } from "@celery-metrics-exporter/testkit";
import { connect, type ChannelModel, type ConfirmChannel, type Options } from "amqplib";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { randomUUID } from "node:crypto";
import { pino } from "pino";
import { receiver } from "../src/index.ts";

export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly reason?: string;
}

/** The resources of one test on the shared servers. */
export class Stage {
  readonly id = randomUUID();
  readonly exchange = `celeryev-${this.id}`;
  readonly rabbitmqQueue = `celery-metrics-exporter-${this.id}`;
  readonly keyprefix = `${this.id}:`;
  readonly prefix = `{${this.id}}`;
  readonly logs: LogLine[] = [];
  readonly redis: Redis;
  readonly #redisUrl: string;
  readonly #running: RunningRoles[] = [];
  #rabbitmq: { readonly connection: ChannelModel; readonly channel: ConfirmChannel } | undefined;

  constructor(redisUrl = sharedRedisUrl()) {
    this.#redisUrl = redisUrl;
    this.redis = new Redis(redisUrl, { maxRetriesPerRequest: null });
    this.redis.on("error", () => {});
  }

  async startReceiver(brokerUrl: string, env: Readonly<Record<string, string>> = {}): Promise<RunningRoles> {
    const running = await startRoles(
      [receiver],
      {
        CELERY_BROKER_URL: brokerUrl,
        REDIS_URL: this.#redisUrl,
        QUEUE_PREFIX: this.prefix,
        EXPORTERS: EXPORTERS.map(({ name }) => name).join(),
        EVENT_EXCHANGE: this.exchange,
        RABBITMQ_QUEUE: this.rabbitmqQueue,
        RABBITMQ_QUEUE_EXPIRES_SECONDS: "60",
        CELERY_GLOBAL_KEYPREFIX: this.keyprefix,
        ...env,
      },
      pino({ level: "info" }, { write: (line: string) => void this.logs.push(JSON.parse(line) as LogLine) }),
    );
    this.#running.push(running);
    return running;
  }

  /** Our own channel, created at its first use. */
  async channel(): Promise<ConfirmChannel> {
    if (this.#rabbitmq === undefined) {
      const connection = await connect(sharedRabbitmqUrl());
      const channel = await connection.createConfirmChannel();
      await channel.assertExchange(this.exchange, "topic", { durable: true });
      this.#rabbitmq = { connection, channel };
    }
    return this.#rabbitmq.channel;
  }

  async publish(bodies: readonly (Buffer | string)[], properties: Options.Publish = { contentType: "application/json" }): Promise<void> {
    const channel = await this.channel();
    for (const body of bodies) channel.publish(this.exchange, "task.multi", Buffer.from(body), properties);
    await channel.waitForConfirms();
  }

  /** Number of messages in our RabbitMQ queue that no consumer holds. */
  async waiting(): Promise<number> {
    const channel = await this.channel();
    return (await channel.checkQueue(this.rabbitmqQueue)).messageCount;
  }

  async batches(exporter: string): Promise<EventBatch[]> {
    return this.#withQueue(exporter, async (queue) =>
      (await queue.getJobs(["wait"], 0, -1, true)).filter(isBatch).map((job) => decodeBatch(job.data)),
    );
  }

  async events(exporter: string): Promise<CeleryEvent[]> {
    return (await this.batches(exporter)).flatMap(({ events }) => events);
  }

  async deadLetters(): Promise<DeadLetter[]> {
    return this.#withQueue("dead-letter", async (queue) =>
      (await queue.getJobs(["wait"], 0, -1, true)).map((job) => job.data as DeadLetter),
    );
  }

  /** Removes and returns the content of an exporter queue, as a processor would. */
  async take(exporter: string): Promise<CeleryEvent[]> {
    return this.#withQueue(exporter, async (queue) => {
      const jobs = (await queue.getJobs(["wait"])).filter(isBatch);
      for (const job of jobs) await job.remove();
      return jobs.flatMap((job) => decodeBatch(job.data).events as CeleryEvent[]);
    });
  }

  async release(): Promise<void> {
    for (const running of this.#running) await running.stop();
    const keys = await this.redis.keys(`${this.prefix.replaceAll(/[{}]/g, "?")}*`);
    if (keys.length > 0) await this.redis.del(...keys);
    await this.redis.quit();
    if (this.#rabbitmq === undefined) return;
    await this.#rabbitmq.channel.deleteQueue(this.rabbitmqQueue);
    await this.#rabbitmq.channel.deleteExchange(this.exchange);
    await this.#rabbitmq.connection.close();
  }

  async #withQueue<T>(name: string, work: (queue: Queue) => Promise<T>): Promise<T> {
    const queue = new Queue(name, { connection: this.redis, prefix: this.prefix });
    try {
      return await work(queue);
    } finally {
      await queue.close();
    }
  }
}

/** The receiver also tells from time to time that it listens. */
function isBatch({ name }: { readonly name: string }): boolean {
  return name === "batch";
}

/** The expected content of an exporter queue for these events: the types that it takes, without the fields that it omits. */
export function takenBy(exporter: string, events: readonly CeleryEvent[]): CeleryEvent[] {
  const { takes, omits = [] } = EXPORTERS.find(({ name }) => name === exporter) ?? { takes: [] };
  const types: ReadonlySet<string> = new Set(takes);
  return events
    .filter(({ type }) => types.has(type))
    .map((event) => Object.fromEntries(Object.entries(event).filter(([field]) => !omits.includes(field))) as unknown as CeleryEvent);
}

/** Events as sorted texts, for comparison in any order. */
export function asSet(events: readonly CeleryEvent[]): string[] {
  return events.map((event) => JSON.stringify(Object.entries(event).sort(([a], [b]) => (a < b ? -1 : 1)))).sort();
}

/** The sum of a metric over its labels, or over the labels that match. */
export async function metricOf({ metrics }: RunningRoles, name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
  const metric = await metrics.registry.getSingleMetric(`celery_metrics_exporter_${name}`)?.get();
  return (metric?.values ?? [])
    .filter((value) => Object.entries(labels).every(([label, text]) => value.labels[label] === text))
    .reduce((sum, { value }) => sum + value, 0);
}
