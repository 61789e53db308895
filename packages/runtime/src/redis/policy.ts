/** How each use of a Redis connection behaves while Redis is unavailable. */
import type { ClusterOptions, RedisOptions } from "ioredis";
import { backoffMs } from "../retry.ts";
import type { z } from "zod";
import { createHash } from "node:crypto";
import { BaseConfig } from "../config/config.ts";
import { ConfigError } from "../errors.ts";
import { type RedisTarget, redisServerOf } from "./address.ts";

/**
 * What a connection is for. While Redis is unavailable, `producer` fails a command at once so that the caller keeps its data, `worker` waits
 * indefinitely as BullMQ's Worker requires, and `viewer` gives up after a few attempts.
 */
export type RedisUse = "producer" | "worker" | "viewer";

export type ConnectionOptions = Omit<RedisOptions, "replyMapping">;

/** Time limit for an answer: a hung Redis or a vanished host does not close the connection. */
const ANSWER_TIMEOUT_MS = 5_000;
/** The same for a connection on which BullMQ waits for jobs: it blocks for up to 10 s. */
const BLOCKED_TIMEOUT_MS = 13_000;
/** The same for views: reading a large queue takes time. */
const VIEW_TIMEOUT_MS = 10_000;

const CONNECT_TIMEOUT_MS = 5_000;

const ANSWERS: Record<RedisUse, ConnectionOptions> = {
  producer: { maxRetriesPerRequest: 1, commandTimeout: ANSWER_TIMEOUT_MS, socketTimeout: ANSWER_TIMEOUT_MS },
  worker: { maxRetriesPerRequest: null, socketTimeout: BLOCKED_TIMEOUT_MS },
  viewer: { maxRetriesPerRequest: 3, commandTimeout: VIEW_TIMEOUT_MS, socketTimeout: VIEW_TIMEOUT_MS },
};

/** Options of every connection, to one server or to a node of a cluster. `CLIENT LIST` shows `name`. */
export function connectionOptions(use: RedisUse, name: string): ConnectionOptions {
  return {
    ...ANSWERS[use],
    // Redis does not accept spaces in a name.
    connectionName: `celery-metrics-exporter:${name.replaceAll(" ", "-")}`,
    connectTimeout: CONNECT_TIMEOUT_MS,
    keepAlive: 10_000,
  };
}

/** Options of a connection to one server. It reconnects by itself. */
export function serverOptions(use: RedisUse): ConnectionOptions {
  return {
    lazyConnect: true,
    enableOfflineQueue: use !== "producer",
    sentinelCommandTimeout: CONNECT_TIMEOUT_MS,
    retryStrategy: reconnectDelayMs,
    sentinelRetryStrategy: reconnectDelayMs,
    // After a failover, the former primary answers READONLY until we reconnect. Before Redis 7, a script's error only quotes that reply.
    reconnectOnError: (error) => (error.message.includes("READONLY") ? 2 : false),
  };
}

/** If one process reconnects later than the others, its events are late by the difference, which must stay well below any grace period. */
function reconnectDelayMs(attempt: number): number {
  return backoffMs(attempt - 1, { firstMs: 100, maxMs: 1_000 });
}

/** Interval of slot refreshes: without commands, nothing else reveals that a master was replaced. */
const REFRESH_MS = 5_000;

/** Options of a connection to a cluster. Lost connections to nodes are not reopened: another node may have their slots by then. */
export function clusterOptions(use: RedisUse): ClusterOptions {
  return {
    ...REDIRECTIONS[use],
    lazyConnect: true,
    // The check would query one node, which fails for a producer while it is connecting. `watchCluster` checks all nodes.
    enableReadyCheck: false,
    slotsRefreshInterval: REFRESH_MS,
    slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
    clusterRetryStrategy: reconnectDelayMs,
  };
}

/** How often and how fast a command is retried on other nodes if its node is gone: they know the new owner of its key. */
const REDIRECTIONS: Record<RedisUse, ClusterOptions> = {
  producer: { enableOfflineQueue: false, retryDelayOnFailover: 0, retryDelayOnClusterDown: 0 },
  worker: { maxRedirections: Number.POSITIVE_INFINITY, retryDelayOnMoved: 100 },
  viewer: { enableOfflineQueue: false },
};

/** The settings of a connection to our Redis: a part of `BaseConfig`. */
export const RedisConfig = BaseConfig.pick({
  REDIS_URL: true,
  REDIS_SENTINEL_MASTER_NAME: true,
  REDIS_SENTINEL_PASSWORD: true,
  REDIS_SENTINEL_TLS: true,
  REDIS_CLUSTER_NAT_MAP: true,
  QUEUE_PREFIX: true,
});

/** A hash tag, which determines a key's slot (Redis cluster specification, "Hash tags"). */
const HASH_TAG = /^[^{]*\{[^}]+\}/;

/**
 * The address of our Redis, from the settings.
 *
 * @throws {ConfigError} if it is a cluster and the prefix would spread the keys of a queue over several nodes.
 */
export function redisTarget(config: z.output<typeof RedisConfig>): RedisTarget {
  const { REDIS_URL, REDIS_SENTINEL_MASTER_NAME, REDIS_SENTINEL_PASSWORD, REDIS_SENTINEL_TLS } = config;
  if (redisServerOf({ url: REDIS_URL }).nodes !== undefined && !HASH_TAG.test(config.QUEUE_PREFIX)) {
    throw new ConfigError(["QUEUE_PREFIX: a Redis Cluster requires braces, as in {cme}: the keys of a queue must be in one slot"]);
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

/** Eight digits that distinguish deployments: processes with the same exporter queues have the same. */
export function deploymentId(config: z.output<typeof RedisConfig>): string {
  const { username: _username, password: _password, tls: _tls, ...place } = redisServerOf(redisTarget(config));
  return createHash("sha256")
    .update(JSON.stringify([place, config.QUEUE_PREFIX]))
    .digest("hex")
    .slice(0, 8);
}
