/** Whether Redis keeps what it has accepted. */
import type { Redis } from "ioredis";
import { toError } from "./errors.ts";
import type { Logger } from "./logger.ts";
import { mastersOf, type RedisConnection } from "./redis-connection.ts";

/** Logs a warning for each setting that lets Redis lose what it has accepted, on any of its nodes. A server that hides its settings is not asked twice. */
export async function warnIfNotDurable(redis: RedisConnection, logger: Logger): Promise<void> {
  try {
    const masters = mastersOf(redis);
    const appendonly = await Promise.all(masters.map((master) => readSetting(master, "appendonly")));
    const policies = await Promise.all(masters.map((master) => readSetting(master, "maxmemory-policy")));
    if (appendonly.includes("no")) logger.warn("Redis has appendonly off: what waits in the queues is lost when it restarts");
    const policy = policies.find((value) => value !== undefined && value !== "noeviction");
    if (policy !== undefined) {
      logger.warn({ policy }, "Redis may evict keys: set maxmemory-policy to noeviction, or queued events can vanish");
    }
  } catch (thrown) {
    logger.debug({ err: toError(thrown) }, "Redis does not tell its settings");
  }
}

async function readSetting(redis: Redis, name: string): Promise<string | undefined> {
  const answer = (await redis.config("GET", name)) as unknown;
  return Array.isArray(answer) ? (answer[1] as string | undefined) : (answer as Record<string, string>)[name];
}
