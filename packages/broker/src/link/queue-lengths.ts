/** What a broker tells about Celery's queues. */
import type { ObservedQueue, ObservedUnacked } from "@celery-metrics-exporter/celery";
import { rabbitmqQueueLengths } from "../rabbitmq/queues.ts";
import { redisQueueLengths, type RedisQueueOptions } from "../redis/queues.ts";
import type { BrokerConnection } from "./broker-link.ts";

export interface RefusedQueue {
  readonly name: string;
  /** The broker's own words, which name the missing permission. */
  readonly reason: string;
}

export interface QueueLengths {
  /** On Redis every queue asked for, on RabbitMQ those that exist. */
  readonly queues: readonly ObservedQueue[];
  /** Only on Redis. */
  readonly unacked?: ObservedUnacked;
  /** Queues that the broker does not let this user count. */
  readonly refused: readonly RefusedQueue[];
}

/**
 * Counts these queues. Reads nothing else and changes nothing.
 *
 * @throws {Error} if the broker does not answer.
 */
export async function queueLengths(
  connection: BrokerConnection,
  names: readonly string[],
  options: { readonly redis: RedisQueueOptions },
): Promise<QueueLengths> {
  return connection.broker === "redis"
    ? redisQueueLengths(connection.redis, names, options.redis)
    : rabbitmqQueueLengths(connection.model, names);
}
