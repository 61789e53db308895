/** Redis connections as BullMQ and our scripts need them. */
import { Redis, type RedisOptions } from "ioredis";
import { backoffMs } from "./backoff.ts";
import { redactUrl } from "./redact-url.ts";
import { UnavailableError, toError } from "./errors.ts";
import type { Health } from "./health.ts";
import { noteHiddenInfo } from "./hidden-info.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Logger } from "./logger.ts";
import { redisAddressOf, type RedisTarget } from "./redis-address.ts";
import { resetHint, tlsProblem } from "./tls-options.ts";
import { KOMBU_TLS_NAMES } from "./tls-settings.ts";

/**
 * What a connection is for. `producer` fails a command at once when Redis is away, so that whoever holds the data keeps it; `worker` waits
 * for Redis for ever, as BullMQ's Worker demands; `viewer` gives up after a few tries.
 */
export type RedisUse = "producer" | "worker" | "viewer";

export interface ConnectRedisOptions extends RedisTarget {
  readonly use: RedisUse;
  /** Shown by `CLIENT LIST`, and the component's name in `/readyz`. */
  readonly name: string;
  readonly startupTimeoutMs: number;
  readonly logger: Logger;
  readonly lifecycle: Lifecycle;
  readonly health: Health;
}

type Options = Omit<RedisOptions, "replyMapping">;

/** A Redis that hangs, or whose host has vanished, closes nothing: this is how long an answer may take before the connection is given up. */
const ANSWER_TIMEOUT_MS = 5_000;
/** The same where BullMQ waits for jobs: it blocks for up to 10 s. */
const BLOCKED_TIMEOUT_MS = 13_000;
/** The same for people: a large queue takes its time to look through. */
const VIEW_TIMEOUT_MS = 10_000;

const CONNECT_TIMEOUT_MS = 5_000;

const OPTIONS: Record<RedisUse, Options> = {
  producer: { maxRetriesPerRequest: 1, enableOfflineQueue: false, commandTimeout: ANSWER_TIMEOUT_MS, socketTimeout: ANSWER_TIMEOUT_MS },
  worker: { maxRetriesPerRequest: null, socketTimeout: BLOCKED_TIMEOUT_MS },
  viewer: { maxRetriesPerRequest: 3, commandTimeout: VIEW_TIMEOUT_MS, socketTimeout: VIEW_TIMEOUT_MS },
};

/**
 * Connects, reconnects for ever afterwards, tells `/readyz`, and is released with the process.
 *
 * @throws {UnavailableError} when Redis has not answered within `startupTimeoutMs`, or refuses us.
 * @throws {ConfigError} when a certificate file cannot be read.
 */
export async function connectRedis(options: ConnectRedisOptions): Promise<Redis> {
  const { url, use, name, logger, lifecycle } = options;
  const address = redisAddressOf(options);
  const redis = new Redis({ ...address, ...connectionOptions(use, name) });
  const component = options.health.component(name);
  let lastError = "no answer";
  redis.on("error", (error: Error) => {
    lastError = resetHint(error, address.tls, KOMBU_TLS_NAMES) ?? describe(error);
    component.down(lastError);
  });
  redis.on("ready", () => {
    component.up();
    logger.debug({ connection: name }, "Redis ready");
  });
  redis.on("close", () => {
    if (!closing) component.down(`disconnected (${lastError})`);
  });
  let closing = false;
  lifecycle.defer(`${name} connection`, async () => {
    closing = true;
    await quit(redis);
  });
  await waitUntilReady(redis, options.startupTimeoutMs, () => {
    return new UnavailableError(`Cannot reach Redis at ${redactUrl(url)} (${lastError}). Start it, or set REDIS_URL.`);
  });
  await noteHiddenInfo(redis, logger);
  redis.on("reconnecting", () => logger.warn({ connection: name, reason: lastError }, "Redis connection lost, reconnecting"));
  return redis;
}

/** What one process has in hand comes late by as much as it is connected later than the others: that must stay well below any grace. */
const RECONNECT = { firstMs: 100, maxMs: 1_000 };

function connectionOptions(use: RedisUse, name: string): Options {
  return {
    ...OPTIONS[use],
    lazyConnect: true,
    // Redis takes no name with a space in it.
    connectionName: `celery-metrics-exporter:${name.replaceAll(" ", "-")}`,
    connectTimeout: CONNECT_TIMEOUT_MS,
    sentinelCommandTimeout: CONNECT_TIMEOUT_MS,
    keepAlive: 10_000,
    retryStrategy: (attempt) => backoffMs(attempt - 1, RECONNECT),
    sentinelRetryStrategy: (attempt) => backoffMs(attempt - 1, RECONNECT),
    // A failed-over primary answers READONLY until the connection is made anew; before Redis 7 a script's answer only quotes that.
    reconnectOnError: (error) => (error.message.includes("READONLY") ? 2 : false),
  };
}

function describe(error: Error): string {
  return tlsProblem(error, KOMBU_TLS_NAMES) ?? (error.message || (error as NodeJS.ErrnoException).code || "connection failed");
}

/** What does not go away by waiting. */
function isRefusal(error: Error): boolean {
  return /WRONGPASS|NOAUTH|NOPERM/.test(error.message) || tlsProblem(error, KOMBU_TLS_NAMES) !== undefined;
}

async function waitUntilReady(redis: Redis, timeoutMs: number, failure: () => Error): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  try {
    await Promise.race([
      new Promise<void>((resolve) => {
        redis.once("ready", () => resolve());
        redis.connect().catch(() => {});
      }),
      new Promise<never>((_resolve, reject) => {
        timer = setTimeout(() => reject(failure()), timeoutMs);
        redis.on("error", (error: Error) => {
          if (isRefusal(error)) reject(failure());
        });
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
}

async function quit(redis: Redis): Promise<void> {
  if (redis.status === "ready") {
    await Promise.race([redis.quit().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 1_000).unref())]);
  }
  redis.disconnect();
}

/** Logs a warning for each setting that lets Redis lose what it has accepted. A server that hides its settings is not asked twice. */
export async function warnIfNotDurable(redis: Redis, logger: Logger): Promise<void> {
  try {
    const appendonly = await readSetting(redis, "appendonly");
    const policy = await readSetting(redis, "maxmemory-policy");
    if (appendonly === "no") logger.warn("Redis has appendonly off: what waits in the queues is lost when it restarts");
    if (policy !== undefined && policy !== "noeviction") {
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
