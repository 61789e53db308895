/** The naive receiver: each event becomes a job for each exporter, and each message is acknowledged individually. */
import amqp from "amqplib";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { DATADOG_QUEUE, POSTGRES_QUEUE, ready, setting, type NaiveEvent } from "./naive.ts";

const PREFETCH = 100;

const redis = new Redis(setting("REDIS_URL"), { maxRetriesPerRequest: null });
const queues = [DATADOG_QUEUE, POSTGRES_QUEUE].map((name) => new Queue(name, { connection: redis }));
const connection = await amqp.connect(setting("CELERY_BROKER_URL"));
const channel = await connection.createChannel();
await channel.prefetch(PREFETCH);
await channel.assertExchange("celeryev", "topic", { durable: true });
const { queue } = await channel.assertQueue("naive", { durable: true, arguments: { "x-queue-type": "quorum" } });
await channel.bindQueue(queue, "celeryev", "task.#");
await channel.consume(queue, (message) => {
  if (message !== null) void enqueue(message.content.toString()).then(() => channel.ack(message));
});
ready();

async function enqueue(body: string): Promise<void> {
  const parsed = JSON.parse(body) as NaiveEvent | NaiveEvent[];
  for (const event of [parsed].flat()) await Promise.all(queues.map((each) => each.add(event.type, event, { removeOnComplete: true })));
}
