/** Error messages for Redis failures. */
import { UnavailableError, toError } from "../errors.ts";

/** Errors that reject the user, password or address. */
const LOGIN = /WRONGPASS|NOAUTH|NOPERM|DENIED|ERR invalid password/;
/** Errors that only a reachable Redis can send. */
const ANSWERS = /^(ERR |READONLY|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN)/;

/** Reasons that name a setting other than the URL. */
const NAMES_SETTING = /; set REDIS_[A-Z_]+$/;

/** Whether Redis refuses the login. */
export function isLoginDenied({ message }: Error): boolean {
  return LOGIN.test(message);
}

/**
 * The error after the startup timeout.
 *
 * @param server the redacted URL.
 */
export function notServing(server: string, reason: string, isLoading: boolean): UnavailableError {
  if (isLoading) return new UnavailableError(`Redis at ${server} is still loading its data. Wait, or set STARTUP_TIMEOUT_SECONDS.`);
  if (ANSWERS.test(reason)) return new UnavailableError(`Redis at ${server} is not ready: ${reason}. Check REDIS_URL.`);
  return new UnavailableError(`Cannot reach Redis at ${server} (${reason}). Start it, or set REDIS_URL.`);
}

/** The error if waiting cannot help. `error` is Redis' answer, `reason` its explanation. */
export function notUsable(server: string, reason: string, error?: Error): UnavailableError {
  if (NAMES_SETTING.test(reason)) return new UnavailableError(`Cannot use Redis at ${server}: ${reason}.`);
  return error !== undefined && isLoginDenied(error)
    ? new UnavailableError(`Redis at ${server} refused access: ${reason}. Check REDIS_URL.`)
    : new UnavailableError(`Cannot use Redis at ${server}: ${reason}. Correct REDIS_URL.`);
}

// Explanations of Redis' answers.

/** The error's message. If the settings are wrong, an explanation of what to set. */
export function redisProblem(error: Error): string {
  const { message } = error;
  if (isOtherProtocol(error)) return "a server other than Redis listens there";
  if (message.startsWith("NOAUTH")) return `it requires a password, and REDIS_URL contains none (${message})`;
  // Redis 5 words it differently.
  if (/^WRONGPASS|^ERR invalid password/.test(message)) return `the user name or password is wrong (${message})`;
  if (/^(MOVED|CROSSSLOT)\b|not allowed in cluster mode/.test(message)) return `${message}; ${IS_CLUSTER}`;
  if (/DB index/.test(message))
    return `${message}: REDIS_URL names a database that does not exist; \`databases\` in the configuration of Redis limits them`;
  if (message.includes("cluster support disabled")) return "it is not in cluster mode; REDIS_URL must start with redis:// or rediss://";
  return message;
}

/** Whether the server does not speak the Redis protocol, according to ioredis' error. */
export function isOtherProtocol({ message }: Error): boolean {
  return message.includes("Unknown RESP type");
}

/** Whether the error answers the SELECT that ioredis sends while connecting. */
export function isSelectError(error: Error & { readonly command?: { readonly name: string } }): boolean {
  return error.command?.name === "select";
}

/** Redis' reply, starting with its error code. Before Redis 7, a script's error only quotes the command's reply (src/scripting.c). */
function redisReply({ message }: Error): string {
  return message.replace(/^ERR Error running script .*: -/, "");
}

/** The problem if the URL of a single server names a cluster node. */
export const IS_CLUSTER = "it is a node of a cluster; REDIS_URL must start with redis+cluster:// or rediss+cluster://";

// What a command's error means for the caller's data.

/** Temporary errors: loading, failing over, out of memory, busy with a script, refusing writes, not the owner of this key. */
const PASSING =
  /^(LOADING|BUSY|OOM|READONLY|MASTERDOWN|NOREPLICAS|MISCONF|CLUSTERDOWN|TRYAGAIN|UNBLOCKED|NOAUTH|NOPERM|WRONGPASS|EXECABORT|MOVED|ASK|CROSSSLOT)\b/;

/** A missing permission inside a script, as worded before Redis 7.2 (src/script.c, src/scripting.c). */
const FORBIDDEN_IN_SCRIPT = /The user executing the script can't/;

/**
 * Whether a command failed for reasons unrelated to it: no connection, or Redis is temporarily unavailable. Other errors concern the command
 * and its data, such as WRONGTYPE.
 */
export function isRedisAway(error: Error): boolean {
  return error.name !== "ReplyError" || PASSING.test(redisReply(error)) || FORBIDDEN_IN_SCRIPT.test(error.message);
}

/** Whether Redis refused a write because it reached `maxmemory`. */
export function isOutOfMemory(error: Error): boolean {
  return redisReply(error).startsWith("OOM ");
}

/** Converts a command's error to a temporary one: the caller keeps its data and retries. @param what the operation that failed. */
export function redisUnavailable(what: string, error: Error): UnavailableError {
  return new UnavailableError(`Redis: ${what} failed (${redisProblem(error)})`, { cause: error });
}

/**
 * Runs commands on Redis.
 *
 * @param what names them, for the message.
 * @throws {UnavailableError} if Redis is unavailable, or refuses them for now. Any other error stays as it is.
 */
export async function onRedis<T>(what: string, commands: () => Promise<T>): Promise<T> {
  try {
    return await commands();
  } catch (thrown) {
    const error = toError(thrown);
    throw isRedisAway(error) ? redisUnavailable(what, error) : error;
  }
}
