/** What a demo leaves in Redis goes with it. */
import { redisAddressOf, type RedisTarget } from "@celery-metrics-exporter/runtime";
import { Redis } from "ioredis";

/** Deletes the keys of the demo's queues, `{prefix}:…`, and of its Store, `{prefix:shard}:…`. A Redis that is gone took them along. */
export async function removeDemoKeys(target: RedisTarget, prefix: string): Promise<void> {
  const redis = new Redis({
    ...redisAddressOf(target),
    lazyConnect: true,
    retryStrategy: () => null,
    sentinelRetryStrategy: () => null,
    maxRetriesPerRequest: 0,
  });
  redis.on("error", () => {});
  try {
    await redis.connect();
    for await (const keys of redis.scanStream({ match: `${prefix.slice(0, -1)}*`, count: 1_000 }) as AsyncIterable<string[]>) {
      if (keys.length > 0) await redis.unlink(...keys);
    }
  } catch {
    // Nothing is left to clean up, or nothing can be done.
  } finally {
    redis.disconnect();
  }
}
