/** Opens Redis connections for BullMQ and our scripts. */
import { Cluster, type Redis } from "ioredis";
import type { z } from "zod";
import type { BaseConfig } from "../config/config.ts";
import { redactUrl } from "../config/url.ts";
import type { Health } from "../process/health.ts";
import { redisAdvice, serverInfo } from "./advice.ts";
import type { Lifecycle } from "../process/lifecycle.ts";
import type { Logger } from "../log/logger.ts";
import { type RedisTarget, redisAddress, redisServerOf } from "./address.ts";
import { type ConnectionListener, createCluster, watchCluster } from "./cluster.ts";
import type { RedisConnection } from "./connection.ts";
import { type RedisConfig, type RedisUse, clusterOptions, connectionOptions, redisTarget, serverOptions } from "./policy.ts";
import { IS_CLUSTER, isLoginDenied, isOtherProtocol, isSelectError, notServing, notUsable, redisProblem } from "./failure.ts";
import { Outage } from "../outage.ts";
import { createStrictRedis } from "./strict-redis.ts";
import { KOMBU_TLS_NAMES, tlsProblem, toTlsOptions } from "../tls/tls.ts";

export interface ConnectRedisOptions extends RedisTarget {
  readonly use: RedisUse;
  /** Name of the connection in `CLIENT LIST` and of the component in `/readyz`. */
  readonly name: string;
  readonly startupTimeoutMs: number;
  readonly logger: Logger;
  readonly lifecycle: Lifecycle;
  readonly health: Health;
  /** Called after the first connect and after every reconnect. */
  readonly onConnected?: () => void;
  /** Called whenever the connection is lost. */
  readonly onLost?: () => void;
}

/** The parts of a role's context that a connection needs. */
export interface RedisContext extends Pick<ConnectRedisOptions, "logger" | "lifecycle" | "health"> {
  readonly config: z.output<typeof RedisConfig> & Pick<z.output<typeof BaseConfig>, "STARTUP_TIMEOUT_SECONDS">;
}

/**
 * Connects to the Redis of a role's settings, as `connectRedis` does.
 *
 * @throws {ConfigError} also if it is a cluster and the prefix would spread the keys of a queue over several nodes.
 */
export function openRedis(
  { config, logger, lifecycle, health }: RedisContext,
  options: Pick<ConnectRedisOptions, "use" | "name" | "onConnected" | "onLost">,
): Promise<RedisConnection> {
  const startupTimeoutMs = config.STARTUP_TIMEOUT_SECONDS * 1_000;
  return connectRedis({ ...redisTarget(config), ...options, startupTimeoutMs, logger, lifecycle, health });
}

/**
 * Connects, and afterwards reconnects indefinitely. Reports to `/readyz`. Closes with the process.
 *
 * @throws {UnavailableError} if Redis does not answer within `startupTimeoutMs`, refuses access, or is a cluster although the URL says it
 *   is not (or the reverse).
 * @throws {ConfigError} if a certificate file cannot be read.
 */
export async function connectRedis(options: ConnectRedisOptions): Promise<RedisConnection> {
  const { url, name, logger, lifecycle, startupTimeoutMs } = options;
  const { redis, tls, masterName, watch } = create(options);
  const component = options.health.component(name);
  const server = redactUrl(url);
  const waiting = new Outage({ logger, ...WAITING });
  let lastError = NO_ANSWER;
  let isUp = false;
  let starting = true;
  let closing = false;
  const loads = (): boolean => lastError === NO_ANSWER && isLoading(redis);
  const wait = (): void => {
    if (starting) waiting.failed({ server, reason: loads() ? "it is still loading its data" : lastError });
  };
  lifecycle.defer(`${name} connection`, async () => {
    closing = true;
    await quit(redis);
  });
  // A Redis that is loading its data, or accepts connections without answering, causes no error.
  const silence = setTimeout(wait, SILENT_MS);
  const inVain = (): Error => notServing(server, lastError, loads());
  await withTimeout(startupTimeoutMs, inVain, (resolve, reject) => {
    watch({
      up: () => {
        if (!isUp) {
          logger.debug({ connection: name }, "Redis ready");
          options.onConnected?.();
        }
        waiting.served({ server });
        isUp = true;
        starting = false;
        component.up();
        resolve();
      },
      down: (what) => {
        if (closing) return;
        component.down(`${what} (${lastError})`);
        wait();
        if (isUp) {
          logger.warn({ connection: name, reason: lastError }, "Redis connection lost, reconnecting");
          options.onLost?.();
        }
        isUp = false;
      },
      failed: (error) => {
        if (CONSEQUENCES.has(error.message)) return;
        const advice = redisAdvice(error, { tls, masterName });
        lastError = advice?.text ?? describe(error);
        if (!(advice?.isFinal ?? isRefusal(error))) return;
        starting = false;
        reject(notUsable(server, lastError, error));
      },
    });
    redis.connect().catch(() => {});
  }).finally(() => clearTimeout(silence));
  const info = await serverInfo(redis, logger);
  if (!(redis instanceof Cluster) && info.includes("redis_mode:cluster") && (await isOneOfSeveral(redis)))
    throw notUsable(server, IS_CLUSTER);
  if (info.includes("redis_mode:sentinel")) throw notUsable(server, "it is a Sentinel; use sentinel://");
  return redis;
}

interface Created {
  readonly redis: RedisConnection;
  readonly tls: object | undefined;
  /** Set if the URL names sentinels. */
  readonly masterName: string | undefined;
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
    return { redis: cluster, tls, masterName: undefined, watch: (listener) => watchCluster(cluster, listener) };
  }
  const address = redisAddress(server, "REDIS_URL", sentinel);
  const redis = createStrictRedis({ ...address, ...connection, ...serverOptions(use) });
  return { redis, tls: address.tls, masterName: address.name, watch: (listener) => watchServer(redis, listener) };
}

function watchServer(redis: Redis, listener: ConnectionListener): void {
  redis.on("ready", () => listener.up());
  redis.on("close", () => listener.down("disconnected"));
  redis.on("error", (error: Error) => {
    listener.failed(error);
    listener.down("disconnected");
  });
}

const NO_ANSWER = "no answer";
/** Repeats soon: at startup, somebody may be watching. */
const WAITING = { began: "waiting for Redis", ended: "Redis is available", level: "info", firstRepeatMs: 5_000 } as const;
const SILENT_MS = 2_000;

/** Errors that ioredis reports for every command on a closed connection. They do not contain the cause. */
const CONSEQUENCES: ReadonlySet<string> = new Set([
  "Connection is closed.",
  "Stream isn't writeable and enableOfflineQueue options is false",
]);

/** Redis has answered the handshake, and ioredis polls it until it is ready. */
function isLoading(redis: RedisConnection): boolean {
  return !(redis instanceof Cluster) && redis.status === "connect" && redis.commandQueue.length === 0;
}

function describe(error: Error): string {
  return tlsProblem(error, KOMBU_TLS_NAMES) ?? (redisProblem(error) || (error as NodeJS.ErrnoException).code || "connection failed");
}

/** Whether waiting cannot help. BUSY can pass: Redis also answers SELECT with it while a script runs for too long. */
function isRefusal(error: Error): boolean {
  if (isSelectError(error)) return !/^(BUSY|LOADING|MASTERDOWN)\b/.test(error.message);
  return (
    isLoginDenied(error) ||
    error.message.includes("cluster support disabled") ||
    isOtherProtocol(error) ||
    tlsProblem(error, KOMBU_TLS_NAMES) !== undefined
  );
}

/** Whether the cluster has more nodes than this one. If we lack the permission to ask, the first MOVED error reveals it. */
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
