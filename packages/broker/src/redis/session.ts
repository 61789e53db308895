/** One connection to Redis that is subscribed to Celery's event channels. */
import { eventChannels, type EventChannels, type EventChannelsOptions } from "@celery-metrics-exporter/celery";
import {
  KOMBU_TLS_NAMES,
  isOtherProtocol,
  redisAddress,
  resetHint,
  tellSentinelErrors,
  tlsProblem,
  toError,
  type RedisServer,
  type SentinelOptions,
} from "@celery-metrics-exporter/runtime";
import { Redis, type RedisOptions as ConnectionOptions } from "ioredis";
import { OtherServerError, RefusedError } from "../source/source.ts";
import type { Session } from "../source/session-keeper.ts";

export interface RedisSubscription extends Omit<EventChannelsOptions, "db" | "sentinel"> {
  /** kombu's transport options `master_name` and `sentinel_kwargs`. */
  readonly sentinelOptions?: SentinelOptions;
}

export interface RedisSessionOptions {
  readonly subscription: RedisSubscription;
  readonly onPayload: (payload: Buffer) => void;
  /** All that was published before this moment (`performance.now()`) has been handed to `onPayload`. Told with each PING's answer. */
  readonly onHeardUntil: (moment: number) => void;
  /** How often to ask whether Redis is still there. Default 1 s. */
  readonly pingMs?: number;
}

const CONNECT_TIMEOUT_MS = 5_000;
const PING_MS = 1_000;
/** So many periods without an answer end the session. */
const PATIENCE = 10;

/**
 * Connects and subscribes.
 *
 * @throws {RefusedError} when Redis refuses password or subscription, has no such database or is a Sentinel, or its certificate is not trusted.
 * @throws {ConfigError} when a certificate file cannot be read.
 */
export async function openRedisSession(server: RedisServer, options: RedisSessionOptions, signal: AbortSignal): Promise<RedisSession> {
  const redis = new Redis(connectionOptions(server, options.subscription));
  tellSentinelErrors(redis);
  let lastError: Error | undefined;
  redis.on("error", (error: Error) => (lastError = error));
  // Of several sentinels one may know better than the last, whose error is the one that is thrown.
  let fromSentinel: Error | undefined;
  redis.on("sentinelError", (error: Error) => (fromSentinel ??= sentinelProblem(error, options.subscription)));
  const abort = (): void => redis.disconnect();
  signal.addEventListener("abort", abort, { once: true });
  try {
    if (signal.aborted) throw new Error("no answer in time");
    await redis.connect();
    await checkServer(redis, server);
    const sentinel = server.sentinels !== undefined;
    const session = new RedisSession(redis, eventChannels({ ...options.subscription, db: server.db, sentinel }), options);
    await session.subscribe();
    return session;
  } catch (thrown) {
    redis.disconnect();
    // "Connection is closed." only says that something was wrong before.
    const error = lastError ?? toError(thrown);
    throw fromSentinel ?? sentinelProblem(error, options.subscription) ?? explain(error, redis.options.tls);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Nothing is repeated inside ioredis: whatever breaks ends the session, so that each interruption is seen and counted. */
export function connectionOptions(server: RedisServer, subscription: RedisSubscription): Omit<ConnectionOptions, "replyMapping"> {
  // Pub/sub crosses databases: the number only is part of the channels' names.
  const { db: _db, ...address } = redisAddress(server, "CELERY_BROKER_URL", subscription.sentinelOptions);
  return {
    ...address,
    sentinelRetryStrategy: () => null,
    sentinelCommandTimeout: CONNECT_TIMEOUT_MS,
    lazyConnect: true,
    connectionName: "celery-metrics-exporter:receiver",
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
  readonly #ping: NodeJS.Timeout;
  readonly #onHeardUntil: (moment: number) => void;
  #end: (reason: Error) => void = () => {};
  #subscribedAt = performance.now();
  /** Periods since a PING that was not answered yet; undefined when none is on its way. */
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
    this.#ping = setInterval(() => this.#probe(), pingMs);
    void this.ended.then(() => clearInterval(this.#ping));
  }

  /** From when on everything is heard (`performance.now()`). */
  get subscribedAt(): number {
    return this.#subscribedAt;
  }

  async subscribe(): Promise<void> {
    const { patterns, channels } = this.#names;
    if (patterns.length > 0) await this.#redis.psubscribe(...patterns);
    if (channels.length > 0) await this.#redis.subscribe(...channels);
    this.#subscribedAt = performance.now();
  }

  /** Redis sends nothing more; what it had sent has been handed over. */
  async unsubscribe(): Promise<void> {
    const { patterns, channels } = this.#names;
    // From here on an answered PING would not mean that all was heard.
    clearInterval(this.#ping);
    const sentAt = performance.now();
    try {
      // By name: without names ioredis waits for a count of zero, which the other kind of subscription keeps from coming.
      if (patterns.length > 0) await this.#redis.punsubscribe(...patterns);
      if (channels.length > 0) await this.#redis.unsubscribe(...channels);
      this.#onHeardUntil(sentAt);
    } catch {
      // The connection is gone, and with it the subscription.
    }
  }

  close(): Promise<void> {
    clearInterval(this.#ping);
    this.#redis.disconnect();
    return Promise.resolve();
  }

  /**
   * A connection whose other end is gone without a word would look like a quiet one for ever. Periods are counted, not timed: a process that was
   * stopped for a while has its answer waiting.
   */
  #probe(): void {
    if (this.#unanswered !== undefined) {
      this.#unanswered += 1;
      if (this.#unanswered < PATIENCE) return;
      // The socket would wait for the other end to close too.
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
      // The connection is gone, and with it the session.
      return;
    }
    this.#unanswered = undefined;
    this.#onHeardUntil(sentAt);
  }
}

/**
 * Subscribing works anywhere, so a wrong server would only be silent. What our user may not ask is taken for right.
 *
 * @throws {RefusedError}
 */
async function checkServer(redis: Redis, { sentinels, db }: RedisServer): Promise<void> {
  const info = sentinels === undefined ? await redis.info("server").catch(() => "") : "";
  if (info.includes("redis_mode:sentinel")) throw new RefusedError("it is a Sentinel: use sentinel://");
  const refused = db === 0 ? undefined : await redis.select(db).then(() => undefined, toError);
  if (refused !== undefined && /DB index/.test(refused.message)) {
    throw new RefusedError(`it has no database ${db} (${refused.message})`, { cause: refused });
  }
}

/** What a sentinel that was reached has against us, or may have; undefined for any other error. */
function sentinelProblem(error: Error, { sentinelOptions = {} }: RedisSubscription): Error | undefined {
  const { message } = error;
  if (!/sentinel/i.test(message)) return undefined;
  const { masterName = "mymaster" } = sentinelOptions;
  // An unknown name is answered with nothing, or when ioredis asks for the other sentinels too, with this error.
  if (/No such master|invalid reply: null|retry is disabled\.$/.test(message)) {
    const problem = `the sentinels are reachable and know no master named ${masterName}`;
    return new RefusedError(problem, { cause: error, setting: "CELERY_SENTINEL_MASTER_NAME" });
  }
  if (/NOAUTH|WRONGPASS|without any password|invalid (password|username-password)/i.test(message)) {
    return new RefusedError("the sentinels are reachable and refuse the password", { cause: error, setting: "CELERY_SENTINEL_PASSWORD" });
  }
  if (/unknown command/i.test(message)) return new RefusedError("this is not a Sentinel but a Redis: use redis://", { cause: error });
  if (sentinelOptions.tls !== true && /Connection is closed|ECONNRESET|EPIPE/.test(message)) {
    return new Error("the sentinels close the connection: perhaps they speak TLS; then set CELERY_SENTINEL_TLS=true", { cause: error });
  }
  return undefined;
}

function explain(error: Error, tls: object | undefined): Error {
  const problem = tlsProblem(error, KOMBU_TLS_NAMES);
  if (problem !== undefined) return new RefusedError(problem, { cause: error });
  if (isOtherProtocol(error)) return new OtherServerError("Redis", { cause: error });
  if (error.message.startsWith("NOAUTH")) {
    return new RefusedError("it wants a password, and the URL has none (NOAUTH)", { cause: error });
  }
  if (/^(WRONGPASS|NOPERM)|invalid (password|username-password)|without any password/i.test(error.message)) {
    return new RefusedError(`user or password is wrong or may not subscribe (${error.message})`, { cause: error });
  }
  const hint = resetHint(error, tls, KOMBU_TLS_NAMES) ?? tlsHint(error, tls);
  return hint === undefined ? error : new Error(hint, { cause: error });
}

/** A server that expects TLS closes a connection without it; one that does not waits for the end of what it takes for a command. */
function tlsHint(error: Error, tls: object | undefined): string | undefined {
  const text = `${(error as NodeJS.ErrnoException).code ?? ""} ${error.message}`;
  if (/sentinel/i.test(text)) return undefined;
  if (tls === undefined && /ECONNRESET|EPIPE|Connection is closed/.test(text)) {
    return "it closed the connection at once: perhaps it speaks TLS on this port (use rediss://), or is no Redis";
  }
  if (tls !== undefined && /ETIMEDOUT/.test(text)) return "no answer to TLS: perhaps it does not speak TLS on this port; use redis://";
  return undefined;
}
