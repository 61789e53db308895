/** The receiver, both exporters' processors and their servers in this process: frames go into a real broker, rows and metrics come out. */
import { once } from "node:events";
import type { CorpusFrame } from "@celery-metrics-exporter/celery/testing";
import { migrate } from "@celery-metrics-exporter/db";
import { DEAD_LETTER_QUEUE, eventsQueueName, processingQueueName, processorRole } from "@celery-metrics-exporter/pipeline";
import { createLogger, startRoles, type RunningRoles } from "@celery-metrics-exporter/runtime";
import { createDatabase, startStatsdSink, type StatsdSink } from "@celery-metrics-exporter/testkit";
import amqp from "amqplib";
import { Queue } from "bullmq";
import { datadog } from "datadog-processor";
import { Redis } from "ioredis";
import { Pool } from "pg";
import { postgres } from "postgres-processor";
import { receiver } from "receiver";

const QUEUES = [eventsQueueName("datadog"), processingQueueName("datadog"), eventsQueueName("postgres")];
const POLL_MS = 100;

/** Selects instants as numbers, because node-postgres would cut them to milliseconds. Of two columns with the same name it returns the last. */
const INSTANTS = ["eta", "expires", "sent_at", "received_at", "started_at", "finished_at"]
  .map((column) => `extract(epoch from ${column})::float8 as ${column}`)
  .join(", ");

export interface WholePipelineOptions {
  readonly redisUrl: string;
  /** The broker for the frames: RabbitMQ, or Redis pub/sub. */
  readonly brokerUrl: string;
  /** Separates runs on shared servers: exchange, queue and key prefix. */
  readonly name: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface WholePipeline {
  readonly sink: StatsdSink;
  readonly running: RunningRoles;
  readonly databaseUrl: string;
  publish(frames: readonly CorpusFrame[]): Promise<void>;
  /** Resolves once the receiver has taken this many events and every queue is empty. */
  handled(events: number): Promise<void>;
  rows(): Promise<readonly Record<string, unknown>[]>;
  /** Number of jobs in the dead-letter queue. */
  deadLetters(): Promise<number>;
  close(): Promise<void>;
}

export async function startWholePipeline({ redisUrl, brokerUrl, name, env = {} }: WholePipelineOptions): Promise<WholePipeline> {
  const [sink, database] = await Promise.all([startStatsdSink(), createDatabase()]);
  await migrate(database.url);
  const prefix = `{${name}}`;
  const publisher = await publishesFrames(brokerUrl, name);
  const running = await startRoles(
    [processorRole(datadog), processorRole(postgres), receiver],
    {
      CELERY_BROKER_URL: brokerUrl,
      EVENT_EXCHANGE: name,
      RABBITMQ_QUEUE: name,
      REDIS_URL: redisUrl,
      QUEUE_PREFIX: prefix,
      DATABASE_URL: database.url,
      DD_AGENT_HOST: "127.0.0.1",
      DD_DOGSTATSD_PORT: String(sink.port),
      ...env,
    },
    createLogger(name, "error"),
  );
  const redis = new Redis(redisUrl, { maxRetriesPerRequest: null });
  const queues = QUEUES.map((queue) => new Queue(queue, { connection: redis, prefix }));
  const deadLetters = new Queue(DEAD_LETTER_QUEUE, { connection: redis, prefix });
  const pool = new Pool({ connectionString: database.url });
  // The database is dropped while connections of the pool are still being closed.
  pool.on("error", () => {});
  return {
    sink,
    running,
    databaseUrl: database.url,
    publish: publisher.publish,
    handled: async (events) => {
      while ((await received(running)) < events) await pause();
      for (let quiet = 0; quiet < 3; await pause()) {
        const counts = await Promise.all(queues.map((queue) => queue.getJobCounts("wait", "active", "delayed", "failed")));
        quiet = counts.every((count) => Object.values(count).every((jobs) => jobs === 0)) ? quiet + 1 : 0;
      }
    },
    rows: async () => (await pool.query<Record<string, unknown>>(`select *, ${INSTANTS} from celery_task`)).rows,
    deadLetters: () => deadLetters.getWaitingCount(),
    close: async () => {
      await running.stop();
      await publisher.close();
      await Promise.all([...queues, deadLetters].map((queue) => queue.close()));
      redis.disconnect();
      await pool.end();
      await Promise.all([sink.close(), database.drop()]);
    },
  };
}

async function pause(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, POLL_MS));
}

/** Number of events of all types that the receiver has taken from the broker. */
async function received({ metrics }: RunningRoles): Promise<number> {
  const metric = await metrics.registry.getSingleMetric("celery_metrics_exporter_events_received_total")?.get();
  return (metric?.values ?? []).reduce((sum, { value }) => sum + value, 0);
}

export interface FramePublisher {
  readonly publish: (frames: readonly CorpusFrame[]) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** Publishes recorded frames to the broker on which they were recorded. Those on Redis have to be heard by exactly one receiver. */
export function publishesFrames(brokerUrl: string, exchange: string): Promise<FramePublisher> {
  return brokerUrl.startsWith("redis") ? redisPublisher(brokerUrl, exchange) : rabbitmqPublisher(brokerUrl, exchange);
}

async function rabbitmqPublisher(url: string, exchange: string): Promise<FramePublisher> {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  // As the first worker does.
  await channel.assertExchange(exchange, "topic", { durable: true });
  return {
    publish: async (frames) => {
      for (const frame of frames) {
        if (frame.transport !== "amqp") throw new Error("recorded on Redis");
        const { contentType, contentEncoding, headers, deliveryMode, priority } = frame.properties;
        const written = channel.publish(exchange, frame.routingKey, frame.body, {
          contentType,
          contentEncoding,
          headers: { ...headers },
          deliveryMode,
          priority,
        });
        if (!written) await once(channel, "drain");
      }
      await channel.waitForConfirms();
    },
    close: async () => {
      await channel.deleteQueue(exchange);
      await channel.deleteExchange(exchange);
      await connection.close();
    },
  };
}

async function redisPublisher(url: string, exchange: string): Promise<FramePublisher> {
  const redis = new Redis(url);
  return {
    publish: async (frames) => {
      const pipeline = redis.pipeline();
      for (const frame of frames) {
        if (frame.transport !== "redis") throw new Error("recorded on RabbitMQ");
        pipeline.publish(frame.channel.replace(".celeryev/", `.${exchange}/`), frame.payload);
      }
      const answers = await pipeline.exec();
      const unheard = answers?.filter(([error, listeners]) => error !== null || listeners !== 1);
      if (unheard?.length !== 0) throw new Error(`${unheard?.length} frames were not heard by exactly one receiver`);
    },
    close: async () => {
      await redis.quit();
    },
  };
}
