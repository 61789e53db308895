/** Which exporters a deployment uses, according to Redis. */
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { EXPORTERS } from "../contract/exporters.ts";
import { eventsQueueName } from "./names.ts";
import { withRedis } from "./redis-errors.ts";

/**
 * Names of the exporters whose queue exists. Receivers and processors create it; in any other queue, events would wait in vain.
 *
 * @throws {UnavailableError} if Redis is unavailable.
 */
export async function exportersInUse(redis: RedisConnection, prefix: string): Promise<readonly string[]> {
  const exist = await withRedis("looking for the exporters' queues", () =>
    Promise.all(EXPORTERS.map(({ name }) => redis.exists(`${prefix}:${eventsQueueName(name)}:meta`))),
  );
  return EXPORTERS.filter((_, index) => exist[index] === 1).map(({ name }) => name);
}
