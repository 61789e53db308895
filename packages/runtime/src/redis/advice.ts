/** What may be wrong with the address of our Redis, by the error that connecting ends with. */
import { KOMBU_TLS_NAMES, resetHint } from "../tls/tls.ts";
import { Cluster, type Redis } from "ioredis";
import { toError } from "../errors.ts";
import type { Logger } from "../log/logger.ts";
import { type RedisConnection, mastersOf } from "./connection.ts";

export interface Connecting {
  readonly tls: object | undefined;
  /** The name that sentinels are asked for; undefined without sentinels. */
  readonly masterName: string | undefined;
}

export interface Advice {
  readonly text: string;
  /** Whether waiting does not help. */
  readonly isFinal: boolean;
}

/** Undefined for an error that speaks for itself. */
export function redisAdvice(error: Error, { tls, masterName }: Connecting): Advice | undefined {
  if (masterName !== undefined && /sentinel|No such master/i.test(error.message)) return sentinelAdvice(error.message, masterName);
  if (masterName !== undefined) return undefined;
  const { code = "" } = error as NodeJS.ErrnoException;
  const text = resetHint(error, tls, KOMBU_TLS_NAMES) ?? tlsAdvice(code, tls);
  return text === undefined ? undefined : { text, isFinal: false };
}

/** A server that expects TLS resets a connection without it. One without TLS waits for the end of what it takes for a command. */
function tlsAdvice(code: string, tls: object | undefined): string | undefined {
  if (tls === undefined && ["ECONNRESET", "EPIPE"].includes(code)) return `${code}: perhaps it speaks TLS on this port; then use rediss://`;
  if (tls !== undefined && code === "ETIMEDOUT") return "no answer to TLS: perhaps it does not speak TLS on this port; then use redis://";
  return undefined;
}

function sentinelAdvice(message: string, masterName: string): Advice | undefined {
  if (/No such master|invalid reply: null/.test(message)) {
    return { text: `the sentinels know no master named ${masterName}; set REDIS_SENTINEL_MASTER_NAME`, isFinal: true };
  }
  if (/sentinels.*(NOAUTH|WRONGPASS|without any password|invalid password)/i.test(message)) {
    return { text: "the sentinels refuse the password; set REDIS_SENTINEL_PASSWORD", isFinal: true };
  }
  if (/sentinels.*unknown command/i.test(message)) return { text: "it is a Redis and not a Sentinel; use redis://", isFinal: true };
  if (/sentinels.*(ECONNREFUSED|EHOSTUNREACH|ENOTFOUND|EAI_AGAIN|ETIMEDOUT)/i.test(message)) {
    const reason = /Last error: (.*)$/s.exec(message)?.[1] ?? message;
    return { text: `no sentinel can be reached: ${reason}`, isFinal: false };
  }
  if (/sentinels.*(Connection is closed|ECONNRESET|EPIPE)/i.test(message)) {
    return { text: "the sentinels close the connection: perhaps they speak TLS; then set REDIS_SENTINEL_TLS=true", isFinal: false };
  }
  return undefined;
}

// Whether Redis keeps what it has accepted.

/** Logs a warning for each setting that lets Redis lose what it has accepted, on any of its nodes. A server that hides its settings is not asked twice. */
export async function warnIfNotDurable(redis: RedisConnection, logger: Logger): Promise<void> {
  try {
    const masters = mastersOf(redis);
    const appendonly = await Promise.all(masters.map((master) => readSetting(master, "appendonly")));
    const policies = await Promise.all(masters.map((master) => readSetting(master, "maxmemory-policy")));
    if (appendonly.includes("no")) logger.warn("Redis has appendonly off: what waits in the queues is lost when it restarts");
    const policy = policies.find((value) => value !== undefined && value !== "noeviction");
    if (policy !== undefined) {
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

// What Redis tells of itself, where our user may ask.

/**
 * What `INFO` tells of the server, or of one node of a cluster; nothing where it is refused. That is noted: BullMQ asks for the version on
 * every connection, and does not start without an answer, unless the connection's options say that it need not know; it then takes the oldest
 * it works with, and waits in whole seconds.
 */
export async function serverInfo(redis: RedisConnection, logger: Logger): Promise<string> {
  try {
    return await redis.info("server");
  } catch (thrown) {
    const error = toError(thrown);
    if (error.message.startsWith("NOPERM")) {
      logger.debug({ reason: error.message }, "Redis does not tell its version and memory");
      const options = redis instanceof Cluster ? redis.options.redisOptions : redis.options;
      Object.assign(options ?? {}, { skipVersionCheck: true });
    }
    return "";
  }
}
