/** How connections to Redis behave when it is away, by what they are for. */
import type { ClusterOptions, RedisOptions } from "ioredis";
import { backoffMs } from "../backoff.ts";
import type { z } from "zod";
import { BaseConfig } from "../config/config.ts";
import { ConfigError } from "../errors.ts";
import { type RedisTarget, redisServerOf } from "./address.ts";

/**
 * What a connection is for. `producer` fails a command at once when Redis is away, so that whoever holds the data keeps it; `worker` waits
 * for Redis for ever, as BullMQ's Worker demands; `viewer` gives up after a few tries.
 */
export type RedisUse = "producer" | "worker" | "viewer";

export type ConnectionOptions = Omit<RedisOptions, "replyMapping">;

/** A Redis that hangs, or whose host has vanished, closes nothing: this is how long an answer may take before the connection is given up. */
const ANSWER_TIMEOUT_MS = 5_000;
/** The same where BullMQ waits for jobs: it blocks for up to 10 s. */
const BLOCKED_TIMEOUT_MS = 13_000;
/** The same for people: a large queue takes its time to look through. */
const VIEW_TIMEOUT_MS = 10_000;

const CONNECT_TIMEOUT_MS = 5_000;

const ANSWERS: Record<RedisUse, ConnectionOptions> = {
  producer: { maxRetriesPerRequest: 1, commandTimeout: ANSWER_TIMEOUT_MS, socketTimeout: ANSWER_TIMEOUT_MS },
  worker: { maxRetriesPerRequest: null, socketTimeout: BLOCKED_TIMEOUT_MS },
  viewer: { maxRetriesPerRequest: 3, commandTimeout: VIEW_TIMEOUT_MS, socketTimeout: VIEW_TIMEOUT_MS },
};

/** Of every connection, be it to one server or to a node of a cluster. `name` is shown by `CLIENT LIST`. */
export function connectionOptions(use: RedisUse, name: string): ConnectionOptions {
  return {
    ...ANSWERS[use],
    // Redis takes no name with a space in it.
    connectionName: `celery-metrics-exporter:${name.replaceAll(" ", "-")}`,
    connectTimeout: CONNECT_TIMEOUT_MS,
    keepAlive: 10_000,
  };
}

/** Of a connection to one server, which comes back by itself. */
export function serverOptions(use: RedisUse): ConnectionOptions {
  return {
    lazyConnect: true,
    enableOfflineQueue: use !== "producer",
    sentinelCommandTimeout: CONNECT_TIMEOUT_MS,
    retryStrategy: reconnectDelayMs,
    sentinelRetryStrategy: reconnectDelayMs,
    // A failed-over primary answers READONLY until the connection is made anew; before Redis 7 a script's answer only quotes that.
    reconnectOnError: (error) => (error.message.includes("READONLY") ? 2 : false),
  };
}

/** What one process has in hand comes late by as much as it is connected later than the others: that must stay well below any grace. */
function reconnectDelayMs(attempt: number): number {
  return backoffMs(attempt - 1, { firstMs: 100, maxMs: 1_000 });
}

/** So often the nodes are asked who has which slots: a master that is asked for nothing may have been replaced. */
const REFRESH_MS = 5_000;

/** Of a connection to a cluster, whose connections to nodes do not come back: another node may have their slots by then. */
export function clusterOptions(use: RedisUse): ClusterOptions {
  return {
    ...REDIRECTIONS[use],
    lazyConnect: true,
    // It would ask one node, which a producer may not do while the connection is being made: `watchCluster` looks at all.
    enableReadyCheck: false,
    slotsRefreshInterval: REFRESH_MS,
    slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
    clusterRetryStrategy: reconnectDelayMs,
  };
}

/** How often, and how fast, a command whose node is gone is tried on others, who know where its key is by now. */
const REDIRECTIONS: Record<RedisUse, ClusterOptions> = {
  producer: { enableOfflineQueue: false, retryDelayOnFailover: 0, retryDelayOnClusterDown: 0 },
  worker: { maxRedirections: Number.POSITIVE_INFINITY, retryDelayOnMoved: 100 },
  viewer: { enableOfflineQueue: false },
};

// Where our Redis is, as the settings say it.

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
