/** Which exporters a deployment uses, according to Redis. */
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { EXPORTERS, type ExporterRegistration } from "../contract/exporters.ts";
import { eventsQueueName } from "./names.ts";
import { withRedis } from "./redis-errors.ts";

/**
 * Names of those exporters whose queue exists. Receivers and processors create it; in any other queue, events would wait in vain.
 *
 * @throws {UnavailableError} if Redis is unavailable.
 */
export async function exportersInUse(
  redis: RedisConnection,
  prefix: string,
  exporters: readonly Pick<ExporterRegistration, "name">[] = EXPORTERS,
): Promise<readonly string[]> {
  const exist = await withRedis("looking for the exporters' queues", () =>
    Promise.all(exporters.map(({ name }) => redis.exists(`${prefix}:${eventsQueueName(name)}:meta`))),
  );
  return exporters.filter((_, index) => exist[index] === 1).map(({ name }) => name);
}
