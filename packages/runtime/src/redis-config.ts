/** Where our Redis is, as the settings say it. */
import type { z } from "zod";
import { BaseConfig } from "./config.ts";
import { ConfigError } from "./errors.ts";
import { redisServerOf, type RedisTarget } from "./redis-address.ts";

/** The settings of a connection to our Redis: a part of `BaseConfig`. */
export const RedisConfig = BaseConfig.pick({
  REDIS_URL: true,
  REDIS_SENTINEL_MASTER_NAME: true,
  REDIS_SENTINEL_PASSWORD: true,
  REDIS_SENTINEL_TLS: true,
  REDIS_CLUSTER_NAT_MAP: true,
  QUEUE_PREFIX: true,
});

/** What Redis takes a key's slot from (cluster-spec, "Hash tags"). */
const HASH_TAG = /^[^{]*\{[^}]+\}/;

/**
 * Where our Redis is, from the settings.
 *
 * @throws {ConfigError} when it is a cluster, and the prefix would put the keys of a queue onto several nodes.
 */
export function redisTarget(config: z.output<typeof RedisConfig>): RedisTarget {
  const { REDIS_URL, REDIS_SENTINEL_MASTER_NAME, REDIS_SENTINEL_PASSWORD, REDIS_SENTINEL_TLS } = config;
  if (redisServerOf({ url: REDIS_URL }).nodes !== undefined && !HASH_TAG.test(config.QUEUE_PREFIX)) {
    throw new ConfigError(["QUEUE_PREFIX: on a Redis Cluster it needs braces, as in {cme}: the keys of a queue have to be in one slot"]);
  }
  return {
    url: REDIS_URL,
    sentinel: {
      masterName: REDIS_SENTINEL_MASTER_NAME,
      ...(REDIS_SENTINEL_PASSWORD === undefined ? {} : { password: REDIS_SENTINEL_PASSWORD }),
      tls: REDIS_SENTINEL_TLS,
    },
    clusterNatMap: config.REDIS_CLUSTER_NAT_MAP,
  };
}
