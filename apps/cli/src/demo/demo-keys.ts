/** What a demo leaves in Redis goes with it. */
import { Health, Lifecycle, connectRedis, createLogger, mastersOf, sendTogether, type RedisTarget } from "@celery-metrics-exporter/runtime";

const STARTUP_TIMEOUT_MS = 2_000;

/** Deletes the keys of the demo's queues, `{prefix}:…`, and of its Store, `{prefix:shard}:…`. A Redis that is gone took them along. */
export async function removeDemoKeys(target: RedisTarget, prefix: string): Promise<void> {
  const logger = createLogger("demo", "silent");
  const lifecycle = new Lifecycle(logger);
  const connection = {
    use: "producer",
    name: "demo",
    startupTimeoutMs: STARTUP_TIMEOUT_MS,
    logger,
    lifecycle,
    health: new Health(),
  } as const;
  try {
    const redis = await connectRedis({ ...target, ...connection });
    for (const master of mastersOf(redis)) {
      for await (const keys of master.scanStream({ match: `${prefix.slice(0, -1)}*`, count: 1_000 }) as AsyncIterable<string[]>) {
        const commands = keys.map((key) => ["unlink", key]);
        await sendTogether(redis, commands);
      }
    }
  } catch {
    // Nothing is left to clean up, or nothing can be done.
  } finally {
    await lifecycle.close();
  }
}
