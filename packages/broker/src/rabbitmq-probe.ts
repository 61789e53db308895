/** Finds out whether our queue is bound: RabbitMQ answers a repeated binding alike whether it was there or not. */
import { toError } from "@celery-metrics-exporter/runtime";
import type { Channel, ChannelModel } from "amqplib";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { countQueue } from "./rabbitmq-advice.ts";
import { ACCESS_REFUSED, attempt, type AmqpError, type RabbitmqTopology } from "./rabbitmq-topology.ts";

export interface ProbeOptions {
  readonly connection: ChannelModel;
  readonly topology: RabbitmqTopology;
  /** Whether our queue has brought a message of the exchange since the probe began. */
  readonly heard: () => boolean;
  /** How long to listen at most. */
  readonly listenMs: number;
}

/** What is published while consumers take turns reaches each of them within so many messages. */
const TURNS = 2;
/** So long a message may take longer through our queue, which is written to disk, than through the probe. */
const GRACE_MS = 1_500;

/**
 * Listens to the exchange with a queue of its own, which the broker deletes with its consumer. What the probe hears and our queue does not get
 * has passed us by. Whatever else explains a silence (a worker that is busy with a task, an alarm that holds up publishers, nobody there)
 * silences the probe as well.
 *
 * @returns `missing` if our queue is certainly not bound; `unknown` where nothing shows that; `refused` where we may not listen. Never throws.
 */
export async function probeBinding({ connection, topology, heard, listenMs }: ProbeOptions): Promise<"missing" | "unknown" | "refused"> {
  const { exchange, queue } = topology;
  const { consumers = 1 } = await countQueue(connection, queue).catch(() => ({ consumers: undefined }));
  const enough = TURNS * Math.max(1, consumers);
  let overheard = 0;
  const listen = async (channel: Channel): Promise<void> => {
    const probe = `${queue}.probe.${randomUUID()}`;
    await channel.assertQueue(probe, { exclusive: true, autoDelete: true, durable: false });
    await channel.bindQueue(probe, exchange, "#");
    // No more than that is sent, however much is published.
    await channel.prefetch(enough, false);
    await channel.consume(probe, () => (overheard += 1));
    const until = performance.now() + listenMs;
    const isOver = (): boolean => overheard >= enough || heard() || performance.now() >= until;
    while (!isOver()) await sleep(listenMs / 50);
  };
  const failed = await attempt(connection, listen).catch((thrown: unknown): AmqpError => toError(thrown));
  if (failed?.code === ACCESS_REFUSED) return "refused";
  // The exchange is missing, or the connection has ended.
  if (failed !== undefined || overheard < enough) return "unknown";
  await sleep(GRACE_MS);
  const { waiting } = await countQueue(connection, queue).catch(() => ({ waiting: undefined }));
  return !heard() && waiting === 0 ? "missing" : "unknown";
}
