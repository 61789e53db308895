/** Which exporters a deployment has, as far as Redis shows it. */
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { EXPORTERS } from "../contract/exporters.ts";
import { eventsQueueName } from "./names.ts";
import { withRedis } from "./redis-errors.ts";

/**
 * Names of the exporters whose queue exists: receivers and processors make it. In any other queue events would only wait.
 *
 * @throws {UnavailableError} when Redis does not serve.
 */
export async function exportersInUse(redis: RedisConnection, prefix: string): Promise<readonly string[]> {
  const exist = await withRedis("looking for the exporters' queues", () =>
    Promise.all(EXPORTERS.map(({ name }) => redis.exists(`${prefix}:${eventsQueueName(name)}:meta`))),
  );
  return EXPORTERS.filter((_, index) => exist[index] === 1).map(({ name }) => name);
}
