/** Where our Redis is, as the settings say it. */
import type { z } from "zod";
import { BaseConfig } from "./config.ts";
import type { RedisTarget } from "./redis-address.ts";

/** The settings of a connection to our Redis: a part of `BaseConfig`. */
export const RedisConfig = BaseConfig.pick({
  REDIS_URL: true,
  REDIS_SENTINEL_MASTER_NAME: true,
  REDIS_SENTINEL_PASSWORD: true,
  REDIS_SENTINEL_TLS: true,
});

/** Where our Redis is, from the settings. */
export function redisTarget(config: z.output<typeof RedisConfig>): RedisTarget {
  const { REDIS_URL, REDIS_SENTINEL_MASTER_NAME, REDIS_SENTINEL_PASSWORD, REDIS_SENTINEL_TLS } = config;
  return {
    url: REDIS_URL,
    sentinel: {
      masterName: REDIS_SENTINEL_MASTER_NAME,
      ...(REDIS_SENTINEL_PASSWORD === undefined ? {} : { password: REDIS_SENTINEL_PASSWORD }),
      tls: REDIS_SENTINEL_TLS,
    },
  };
}
