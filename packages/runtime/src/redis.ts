/** Redis connections as BullMQ and our scripts need them. */
import { Cluster, Redis } from "ioredis";
import { redactUrl } from "./redact-url.ts";
import { UnavailableError } from "./errors.ts";
import type { Health } from "./health.ts";
import { serverInfo } from "./server-info.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Logger } from "./logger.ts";
import { redisAddress, redisServerOf, type RedisTarget } from "./redis-address.ts";
import { createCluster, watchCluster, type ConnectionListener } from "./redis-cluster.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { clusterOptions, connectionOptions, serverOptions, type RedisUse } from "./redis-policy.ts";
import { IS_CLUSTER, redisProblem } from "./redis-problem.ts";
import { resetHint, tlsProblem, toTlsOptions } from "./tls-options.ts";
import { KOMBU_TLS_NAMES } from "./tls-settings.ts";

export interface ConnectRedisOptions extends RedisTarget {
  readonly use: RedisUse;
  /** Shown by `CLIENT LIST`, and the component's name in `/readyz`. */
  readonly name: string;
  readonly startupTimeoutMs: number;
  readonly logger: Logger;
  readonly lifecycle: Lifecycle;
  readonly health: Health;
  /** Called at the first connection, and whenever it is there again. */
  readonly onConnected?: () => void;
  /** Called whenever it was lost. */
  readonly onLost?: () => void;
}

/**
 * Connects, reconnects for ever afterwards, tells `/readyz`, and is released with the process.
 *
 * @throws {UnavailableError} when Redis has not answered within `startupTimeoutMs`, refuses us, or is a cluster where the URL says it is none
 *   and the other way round.
 * @throws {ConfigError} when a certificate file cannot be read.
 */
export async function connectRedis(options: ConnectRedisOptions): Promise<RedisConnection> {
  const { url, name, logger, lifecycle, startupTimeoutMs } = options;
  const { redis, tls, watch } = create(options);
  const component = options.health.component(name);
  let lastError = "no answer";
  let isUp = false;
  let closing = false;
  const failure = (): Error => new UnavailableError(`Cannot reach Redis at ${redactUrl(url)} (${lastError}). Start it, or set REDIS_URL.`);
  lifecycle.defer(`${name} connection`, async () => {
    closing = true;
    await quit(redis);
  });
  await withTimeout(startupTimeoutMs, failure, (resolve, reject) => {
    watch({
      up: () => {
        if (!isUp) {
          logger.debug({ connection: name }, "Redis ready");
          options.onConnected?.();
        }
        isUp = true;
        component.up();
        resolve();
      },
      down: (what) => {
        if (closing) return;
        component.down(`${what} (${lastError})`);
        if (isUp) {
          logger.warn({ connection: name, reason: lastError }, "Redis connection lost, reconnecting");
          options.onLost?.();
        }
        isUp = false;
      },
      failed: (error) => {
        if (error.message === CONSEQUENCE) return;
        lastError = resetHint(error, tls, KOMBU_TLS_NAMES) ?? describe(error);
        if (isRefusal(error)) reject(failure());
      },
    });
    redis.connect().catch(() => {});
  });
  const info = await serverInfo(redis, logger);
  if (!(redis instanceof Cluster) && info.includes("redis_mode:cluster") && (await isOneOfSeveral(redis))) {
    lastError = IS_CLUSTER;
    throw failure();
  }
  return redis;
}

interface Created {
  readonly redis: RedisConnection;
  readonly tls: object | undefined;
  readonly watch: (listener: ConnectionListener) => void;
}

function create(options: ConnectRedisOptions): Created {
  const { use, name, sentinel, clusterNatMap: natMap } = options;
  const server = redisServerOf(options);
  const connection = connectionOptions(use, name);
  if (server.nodes !== undefined) {
    const context = { variable: "REDIS_URL", names: KOMBU_TLS_NAMES };
    const cluster = createCluster(server, { cluster: clusterOptions(use), connection, natMap, context });
    const tls = server.tls === undefined ? undefined : toTlsOptions(server.tls, context);
    return { redis: cluster, tls, watch: (listener) => watchCluster(cluster, listener) };
  }
  const address = redisAddress(server, "REDIS_URL", sentinel);
  const redis = new Redis({ ...address, ...connection, ...serverOptions(use) });
  return { redis, tls: address.tls, watch: (listener) => watchServer(redis, listener) };
}

function watchServer(redis: Redis, listener: ConnectionListener): void {
  redis.on("ready", () => listener.up());
  redis.on("close", () => listener.down("disconnected"));
  redis.on("error", (error: Error) => {
    listener.failed(error);
    listener.down("disconnected");
  });
}

/** What ioredis says of every command when a connection is gone, whatever ended it. */
const CONSEQUENCE = "Connection is closed.";

function describe(error: Error): string {
  return tlsProblem(error, KOMBU_TLS_NAMES) ?? (redisProblem(error) || (error as NodeJS.ErrnoException).code || "connection failed");
}

/** What does not go away by waiting. */
function isRefusal(error: Error): boolean {
  return /WRONGPASS|NOAUTH|NOPERM|cluster support disabled/.test(error.message) || tlsProblem(error, KOMBU_TLS_NAMES) !== undefined;
}

/** Whether this node of a cluster does not have all slots. Where we may not ask, the first key that is elsewhere tells. */
async function isOneOfSeveral(redis: Redis): Promise<boolean> {
  const info = await redis.cluster("INFO").then(String, () => "");
  return Number(/cluster_size:(\d+)/.exec(info)?.[1] ?? 0) > 1;
}

async function withTimeout(
  timeoutMs: number,
  failure: () => Error,
  start: (resolve: () => void, reject: (error: Error) => void) => void,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(() => reject(failure()), timeoutMs);
      start(resolve, reject);
    });
  } finally {
    clearTimeout(timer);
  }
}

async function quit(redis: RedisConnection): Promise<void> {
  if (redis.status === "ready") {
    await Promise.race([redis.quit().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 1_000).unref())]);
  }
  redis.disconnect();
}
