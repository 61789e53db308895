/** What Redis tells of itself, where our user may ask. */
import { Cluster } from "ioredis";
import { toError } from "./errors.ts";
import type { Logger } from "./logger.ts";
import type { RedisConnection } from "./redis-connection.ts";

/**
 * What `INFO` tells of the server, or of one node of a cluster; nothing where it is refused. That is noted: BullMQ asks for the version on
 * every connection, and does not start without an answer, unless the connection's options say that it need not know; it then takes the oldest
 * it works with, and waits in whole seconds.
 */
export async function serverInfo(redis: RedisConnection, logger: Logger): Promise<string> {
  try {
    return await redis.info("server");
  } catch (thrown) {
    const error = toError(thrown);
    if (error.message.startsWith("NOPERM")) {
      logger.debug({ reason: error.message }, "Redis does not tell its version and memory");
      const options = redis instanceof Cluster ? redis.options.redisOptions : redis.options;
      Object.assign(options ?? {}, { skipVersionCheck: true });
    }
    return "";
  }
}
