/** Chooses the Redis of the single process if none is set: the broker's, if the broker is a Redis. */
import { parseBrokerUrl } from "@celery-metrics-exporter/broker";
import { BaseConfig, parseRedisUrl, redactUrl, withoutUnknownSettings, type Environment } from "@celery-metrics-exporter/runtime";
import { isSet, readIfPossible, type Decision } from "./decision.ts";

const DEFAULT_PREFIX = BaseConfig.shape.QUEUE_PREFIX.parse(undefined);

/** The broker's settings for reaching sentinels. */
const SENTINEL_SETTINGS = ["MASTER_NAME", "PASSWORD", "TLS"].flatMap((name) => [name, `${name}_FILE`]);

/**
 * The environment with the broker's URL as `REDIS_URL`: same server, credentials, TLS and database, because the server may allow no other
 * database. Query settings that only Celery knows are removed. The environment is unchanged if the broker is not a Redis or has several
 * masters: keys that belong together cannot be spread over several masters.
 */
export function withRedis(env: Environment): Decision {
  const url = isSet("REDIS_URL", env) ? undefined : readIfPossible("CELERY_BROKER_URL", env);
  if (url === undefined) return { env };
  const broker = parseBrokerUrl(url);
  const parsed = parseRedisUrl(url);
  if (!broker.ok || broker.url.broker !== "redis" || broker.url.servers.length > 1 || !parsed.ok) return { env };
  const sentinel = SENTINEL_SETTINGS.map((name) => [`REDIS_SENTINEL_${name}`, env[`CELERY_SENTINEL_${name}`]] as const);
  const sentinelIsSet = sentinel.some(([name]) => (env[name] ?? "") !== "");
  return {
    env: { ...env, ...(sentinelIsSet ? {} : Object.fromEntries(sentinel)), REDIS_URL: withoutUnknownSettings(url) },
    note: {
      settings: ["REDIS_URL", "REDIS_SENTINEL_"],
      isInPanel: true,
      message: "REDIS_URL is not set: the exporter queues are in the broker's Redis, in the same database",
      fields: { redis: redactUrl(url), database: parsed.server.db, keys: `${readIfPossible("QUEUE_PREFIX", env) ?? DEFAULT_PREFIX}:*` },
    },
  };
}
