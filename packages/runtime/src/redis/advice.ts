/** Advice about the address and settings of our Redis. */
import { KOMBU_TLS_NAMES, resetHint } from "../tls/tls.ts";
import { Cluster, type Redis } from "ioredis";
import { toError } from "../errors.ts";
import type { Logger } from "../log/logger.ts";
import { type RedisConnection, mastersOf } from "./connection.ts";

export interface Connecting {
  readonly tls: object | undefined;
  /** The master's name at the sentinels; undefined without sentinels. */
  readonly masterName: string | undefined;
}

export interface Advice {
  readonly text: string;
  /** Whether waiting cannot help. */
  readonly isFinal: boolean;
}

/** Explains a connection error. Undefined if the error explains itself. */
export function redisAdvice(error: Error, { tls, masterName }: Connecting): Advice | undefined {
  if (masterName !== undefined && /sentinel|No such master/i.test(error.message)) return sentinelAdvice(error.message, masterName);
  if (masterName !== undefined) return undefined;
  const { code = "" } = error as NodeJS.ErrnoException;
  const text = resetHint(error, tls, KOMBU_TLS_NAMES) ?? tlsAdvice(code, tls);
  return text === undefined ? undefined : { text, isFinal: false };
}

/** A server that expects TLS resets a plain connection. A server without TLS reads the handshake as a command and waits for its end. */
function tlsAdvice(code: string, tls: object | undefined): string | undefined {
  if (tls === undefined && ["ECONNRESET", "EPIPE"].includes(code))
    return `${code}: perhaps it requires TLS on this port; if so, use rediss://`;
  if (tls !== undefined && code === "ETIMEDOUT")
    return "no answer to the TLS handshake: perhaps it does not support TLS on this port; if so, use redis://";
  return undefined;
}

function sentinelAdvice(message: string, masterName: string): Advice | undefined {
  if (/No such master|invalid reply: null/.test(message)) {
    return { text: `the sentinels do not know a master named ${masterName}; set REDIS_SENTINEL_MASTER_NAME`, isFinal: true };
  }
  if (/sentinels.*(NOAUTH|WRONGPASS|without any password|invalid password)/i.test(message)) {
    return { text: "the sentinels rejected the password; set REDIS_SENTINEL_PASSWORD", isFinal: true };
  }
  if (/sentinels.*unknown command/i.test(message)) return { text: "it is a Redis server, not a Sentinel; use redis://", isFinal: true };
  if (/sentinels.*(ECONNREFUSED|EHOSTUNREACH|ENOTFOUND|EAI_AGAIN|ETIMEDOUT)/i.test(message)) {
    const reason = /Last error: (.*)$/s.exec(message)?.[1] ?? message;
    return { text: `no sentinel can be reached: ${reason}`, isFinal: false };
  }
  if (/sentinels.*(Connection is closed|ECONNRESET|EPIPE)/i.test(message)) {
    return { text: "the sentinels closed the connection: perhaps they require TLS; if so, set REDIS_SENTINEL_TLS=true", isFinal: false };
  }
  return undefined;
}

// Durability of Redis.

/** Logs a warning for each setting with which Redis, or a node of a cluster, can lose accepted data. Skips the check if `CONFIG` is not permitted. */
export async function warnIfNotDurable(redis: RedisConnection, logger: Logger): Promise<void> {
  try {
    const masters = mastersOf(redis);
    const appendonly = await Promise.all(masters.map((master) => readSetting(master, "appendonly")));
    const policies = await Promise.all(masters.map((master) => readSetting(master, "maxmemory-policy")));
    if (appendonly.includes("no")) logger.warn("Redis has appendonly off: queued events are lost if it restarts");
    const policy = policies.find((value) => value !== undefined && value !== "noeviction");
    if (policy !== undefined) {
      logger.warn({ policy }, "Redis may evict keys: set maxmemory-policy to noeviction, or queued events can be lost");
    }
  } catch (thrown) {
    logger.debug({ err: toError(thrown) }, "cannot read the settings of Redis");
  }
}

async function readSetting(redis: Redis, name: string): Promise<string | undefined> {
  const answer = (await redis.config("GET", name)) as unknown;
  return Array.isArray(answer) ? (answer[1] as string | undefined) : (answer as Record<string, string>)[name];
}

// Server information.

/**
 * `INFO` of the server, or of one node of a cluster; empty if it is not permitted. In that case it sets `skipVersionCheck`: BullMQ queries the
 * version on every connection and does not start without an answer. With that option BullMQ assumes the oldest version it supports, and its
 * waits are in whole seconds.
 */
export async function serverInfo(redis: RedisConnection, logger: Logger): Promise<string> {
  try {
    return await redis.info("server");
  } catch (thrown) {
    const error = toError(thrown);
    if (error.message.startsWith("NOPERM")) {
      logger.debug({ reason: error.message }, "cannot read the version and memory of Redis");
      const options = redis instanceof Cluster ? redis.options.redisOptions : redis.options;
      Object.assign(options ?? {}, { skipVersionCheck: true });
    }
    return "";
  }
}
