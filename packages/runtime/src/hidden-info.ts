/** A Redis whose `INFO` our user may not run. */
import { Cluster } from "ioredis";
import { toError } from "./errors.ts";
import type { Logger } from "./logger.ts";
import type { RedisConnection } from "./redis-connection.ts";

/**
 * Asks once. BullMQ asks for the version on every connection, and does not start without an answer, unless the connection's options say that
 * it need not know; it then takes the oldest it works with, and waits in whole seconds.
 */
export async function noteHiddenInfo(redis: RedisConnection, logger: Logger): Promise<void> {
  try {
    await redis.info("server");
  } catch (thrown) {
    const error = toError(thrown);
    if (!error.message.startsWith("NOPERM")) return;
    logger.debug({ reason: error.message }, "Redis does not tell its version and memory");
    const options = redis instanceof Cluster ? redis.options.redisOptions : redis.options;
    Object.assign(options ?? {}, { skipVersionCheck: true });
  }
}
