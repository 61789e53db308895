/** One Redis connection subscribed to Celery's event channels. */
import { eventChannels, type EventChannels, type EventChannelsOptions } from "@celery-metrics-exporter/celery";
import {
  KOMBU_TLS_NAMES,
  type RedisServer,
  Repeat,
  type SentinelOptions,
  isOtherProtocol,
  redisAddress,
  resetHint,
  tellSentinelErrors,
  tlsProblem,
  toError,
} from "@celery-metrics-exporter/runtime";
import { Redis, type RedisOptions as ConnectionOptions } from "ioredis";
import { OtherServerError, DeniedError } from "../source/source.ts";
import type { Session } from "../source/session-keeper.ts";
import { readInTurns } from "./reading.ts";

export interface RedisSubscription extends Omit<EventChannelsOptions, "db" | "sentinel"> {
  /** kombu's transport options `master_name` and `sentinel_kwargs`. */
  readonly sentinelOptions?: SentinelOptions;
}

export interface RedisSessionOptions {
  readonly subscription: RedisSubscription;
  readonly onPayload: (payload: Buffer) => void;
  /** All messages published before this time (`performance.now()`) were passed to `onPayload`. Called after each answered PING. */
  readonly onHeardUntil: (moment: number) => void;
  /** Interval of PINGs. Default: 1 s. */
  readonly pingMs?: number;
}

const CONNECT_TIMEOUT_MS = 5_000;
const PING_MS = 1_000;
/** Limit on PING intervals without an answer, after which the session ends. */
const PATIENCE = 10;

/**
 * Connects and subscribes.
 *
 * @throws {DeniedError} if Redis refuses the password or subscription, does not have the database or is a Sentinel, or if its certificate is not
 *   trusted.
 * @throws {ConfigError} if a certificate file cannot be read.
 */
export async function openRedisSession(server: RedisServer, options: RedisSessionOptions, signal: AbortSignal): Promise<RedisSession> {
  const { subscription } = options;
  const redis = new Redis(connectionOptions(server, subscription));
  return openOn(redis, { sentinelOptions: subscription.sentinelOptions, signal }, async () => {
    await checkServer(redis, server);
    const sentinel = server.sentinels !== undefined;
    const session = new RedisSession(redis, eventChannels({ ...subscription, db: server.db, sentinel }), options);
    await session.subscribe();
    return session;
  });
}

interface OpenOptions {
  readonly sentinelOptions: SentinelOptions | undefined;
  /** Its abort disconnects. */
  readonly signal: AbortSignal;
}

/** Connects and opens something on the connection. Disconnects and explains the error if either fails. */
export async function openOn<T>(redis: Redis, { sentinelOptions, signal }: OpenOptions, open: () => Promise<T>): Promise<T> {
  tellSentinelErrors(redis);
  let lastError: Error | undefined;
  redis.on("error", (error: Error) => (lastError = error));
  // ioredis throws the error of the last sentinel. An earlier one may be more informative.
  let fromSentinel: Error | undefined;
  redis.on("sentinelError", (error: Error) => (fromSentinel ??= sentinelProblem(error, sentinelOptions)));
  const abort = (): void => redis.disconnect();
  signal.addEventListener("abort", abort, { once: true });
  try {
    if (signal.aborted) throw new Error("no answer in time");
    await redis.connect();
    return await open();
  } catch (thrown) {
    redis.disconnect();
    // "Connection is closed." is only the consequence of an earlier error.
    const error = lastError ?? toError(thrown);
    throw fromSentinel ?? sentinelProblem(error, sentinelOptions) ?? explain(error, redis.options.tls);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Disables all retries of ioredis: every failure ends the session, so that each interruption is noticed and counted. */
export function connectionOptions(
  server: RedisServer,
  { sentinelOptions }: Pick<RedisSubscription, "sentinelOptions">,
  use = "receiver",
): Omit<ConnectionOptions, "replyMapping"> {
  // Pub/sub ignores databases: the number is only part of the channel names.
  const { db: _db, ...address } = redisAddress(server, "CELERY_BROKER_URL", sentinelOptions);
  return {
    ...address,
    sentinelRetryStrategy: () => null,
    sentinelCommandTimeout: CONNECT_TIMEOUT_MS,
    lazyConnect: true,
    connectionName: `celery-metrics-exporter:${use}`,
    connectTimeout: CONNECT_TIMEOUT_MS,
    keepAlive: 10_000,
    retryStrategy: () => null,
    autoResubscribe: false,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
  };
}

export class RedisSession implements Session {
  readonly ended: Promise<Error>;
  readonly #redis: Redis;
  readonly #names: EventChannels;
  readonly #pings: Repeat;
  readonly #onHeardUntil: (moment: number) => void;
  #end: (reason: Error) => void = () => {};
  #subscribedAt = performance.now();
  /** Intervals since the unanswered PING; undefined if there is none. */
  #unanswered: number | undefined;

  constructor(redis: Redis, names: EventChannels, { onPayload, onHeardUntil, pingMs = PING_MS }: RedisSessionOptions) {
    this.#redis = redis;
    this.#names = names;
    this.#onHeardUntil = onHeardUntil;
    redis.on("pmessageBuffer", (_pattern: string, _channel: Buffer, payload: Buffer) => onPayload(payload));
    redis.on("messageBuffer", (_channel: Buffer, payload: Buffer) => onPayload(payload));
    this.ended = new Promise((resolve) => {
      let reason = new Error("connection closed");
      redis.on("error", (error: Error) => (reason = error));
      redis.once("end", () => resolve(reason));
      this.#end = resolve;
    });
    this.#pings = new Repeat(() => this.#probe(), { everyMs: pingMs });
    void this.ended.then(() => this.#pings.stop());
  }

  /** Time since which every message is received (`performance.now()`). */
  get subscribedAt(): number {
    return this.#subscribedAt;
  }

  async subscribe(): Promise<void> {
    const { patterns, channels } = this.#names;
    if (patterns.length > 0) await this.#redis.psubscribe(...patterns);
    if (channels.length > 0) await this.#redis.subscribe(...channels);
    this.#subscribedAt = performance.now();
    readInTurns(this.#redis.stream);
  }

  /** Resolves when Redis sends nothing more and everything it sent was handed over. */
  async unsubscribe(): Promise<void> {
    const { patterns, channels } = this.#names;
    // From here on, an answered PING no longer proves that all messages were received.
    void this.#pings.stop();
    const sentAt = performance.now();
    try {
      // Names every subscription: without names, ioredis waits for a count of zero, which the other kind of subscription prevents.
      if (patterns.length > 0) await this.#redis.punsubscribe(...patterns);
      if (channels.length > 0) await this.#redis.unsubscribe(...channels);
      this.#onHeardUntil(sentAt);
    } catch {
      // The connection is gone, and the subscription with it.
    }
  }

  close(): Promise<void> {
    void this.#pings.stop();
    this.#redis.disconnect();
    return Promise.resolve();
  }

  /**
   * Detects a half-open connection, which otherwise looks like a quiet one forever. Counts intervals instead of measuring time: a process that was
   * paused for a while finds the answer waiting in its socket.
   */
  #probe(): void {
    if (this.#unanswered !== undefined) {
      this.#unanswered += 1;
      if (this.#unanswered < PATIENCE) return;
      // Does not wait for the socket, which waits for the other end to close too.
      this.#end(new Error("no answer to PING"));
      this.#redis.disconnect();
      return;
    }
    this.#unanswered = 0;
    void this.#ask();
  }

  async #ask(): Promise<void> {
    const sentAt = performance.now();
    try {
      await this.#redis.ping();
    } catch {
      // The connection is gone, and the session with it.
      return;
    }
    this.#unanswered = undefined;
    this.#onHeardUntil(sentAt);
  }
}

/**
 * Checks the server, because subscribing succeeds on a wrong one too and then stays silent. Assumes that checks without permission pass.
 *
 * @throws {DeniedError}
 */
export async function checkServer(redis: Redis, { sentinels, db }: RedisServer): Promise<void> {
  const info = sentinels === undefined ? await redis.info("server").catch(() => "") : "";
  if (info.includes("redis_mode:sentinel")) throw new DeniedError("it is a Sentinel: use sentinel://");
  const refused = db === 0 ? undefined : await redis.select(db).then(() => undefined, toError);
  if (refused !== undefined && /DB index/.test(refused.message)) {
    throw new DeniedError(`it has no database ${db} (${refused.message})`, { cause: refused });
  }
}

/** Explains the error of a reachable sentinel. Undefined for any other error. */
function sentinelProblem(error: Error, sentinelOptions: SentinelOptions = {}): Error | undefined {
  const { message } = error;
  if (!/sentinel/i.test(message)) return undefined;
  const { masterName = "mymaster" } = sentinelOptions;
  // Sentinel returns null for an unknown name, or one of these errors if ioredis also queries the other sentinels.
  if (/No such master|invalid reply: null|retry is disabled\.$/.test(message)) {
    const problem = `the sentinels are reachable but do not know a master named ${masterName}`;
    return new DeniedError(problem, { cause: error, setting: "CELERY_SENTINEL_MASTER_NAME" });
  }
  if (/NOAUTH|WRONGPASS|without any password|invalid (password|username-password)/i.test(message)) {
    return new DeniedError("the sentinels are reachable but rejected the password", { cause: error, setting: "CELERY_SENTINEL_PASSWORD" });
  }
  if (/unknown command/i.test(message)) return new DeniedError("it is a Redis server, not a Sentinel: use redis://", { cause: error });
  if (sentinelOptions.tls !== true && /Connection is closed|ECONNRESET|EPIPE/.test(message)) {
    return new Error("the sentinels closed the connection: perhaps they require TLS; if so, set CELERY_SENTINEL_TLS=true", {
      cause: error,
    });
  }
  return undefined;
}

function explain(error: Error, tls: object | undefined): Error {
  const problem = tlsProblem(error, KOMBU_TLS_NAMES);
  if (problem !== undefined) return new DeniedError(problem, { cause: error });
  if (isOtherProtocol(error)) return new OtherServerError("Redis", { cause: error });
  if (error.message.startsWith("NOAUTH")) {
    return new DeniedError("it requires a password, and the URL contains none (NOAUTH)", { cause: error });
  }
  if (/^(WRONGPASS|NOPERM)|invalid (password|username-password)|without any password/i.test(error.message)) {
    return new DeniedError(`the user name or password is wrong, or the user lacks a permission (${error.message})`, { cause: error });
  }
  const hint = resetHint(error, tls, KOMBU_TLS_NAMES) ?? tlsHint(error, tls);
  return hint === undefined ? error : new Error(hint, { cause: error });
}

/** A server that expects TLS closes a plain connection. A server without TLS reads the handshake as a command and waits for its end. */
function tlsHint(error: Error, tls: object | undefined): string | undefined {
  const text = `${(error as NodeJS.ErrnoException).code ?? ""} ${error.message}`;
  if (/sentinel/i.test(text)) return undefined;
  if (tls === undefined && /ECONNRESET|EPIPE|Connection is closed/.test(text)) {
    return "it closed the connection at once: perhaps it requires TLS on this port (use rediss://), or is not a Redis server";
  }
  if (tls !== undefined && /ETIMEDOUT/.test(text))
    return "no answer to the TLS handshake: perhaps it does not support TLS on this port; if so, use redis://";
  return undefined;
}
