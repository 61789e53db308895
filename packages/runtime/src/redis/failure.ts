/** What is said when Redis cannot be had at start. */
import { UnavailableError } from "../errors.ts";

/** Where user, password or address are not welcome. */
const LOGIN = /WRONGPASS|NOAUTH|NOPERM|DENIED|ERR invalid password/;
/** What only a Redis says that was reached. */
const ANSWERS = /^(ERR |READONLY|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN)/;

/** Another setting than the URL is wrong. */
const NAMES_SETTING = /; set REDIS_[A-Z_]+$/;

/** Whether Redis does not let us in. */
export function isLoginRefusal({ message }: Error): boolean {
  return LOGIN.test(message);
}

/**
 * After waiting in vain.
 *
 * @param server the URL as it may be shown.
 */
export function notServing(server: string, reason: string, isLoading: boolean): UnavailableError {
  if (isLoading) return new UnavailableError(`Redis at ${server} is still loading its data. Wait, or set STARTUP_TIMEOUT_SECONDS.`);
  if (ANSWERS.test(reason)) return new UnavailableError(`Redis at ${server} does not serve: ${reason}. Check REDIS_URL.`);
  return new UnavailableError(`Cannot reach Redis at ${server} (${reason}). Start it, or set REDIS_URL.`);
}

/** Where waiting does not help. `error` is what was said, `reason` what that means. */
export function notUsable(server: string, reason: string, error?: Error): UnavailableError {
  if (NAMES_SETTING.test(reason)) return new UnavailableError(`Cannot use Redis at ${server}: ${reason}.`);
  return error !== undefined && isLoginRefusal(error)
    ? new UnavailableError(`Redis at ${server} refuses us: ${reason}. Check REDIS_URL.`)
    : new UnavailableError(`Cannot use Redis at ${server}: ${reason}. Correct REDIS_URL.`);
}

// What Redis answers, in words that tell what to do.

/** The error's own message; where the settings are at fault, with what to set. */
export function redisProblem(error: Error): string {
  const { message } = error;
  if (isOtherProtocol(error)) return "something else than Redis listens there";
  if (message.startsWith("NOAUTH")) return `it wants a password, and REDIS_URL has none (${message})`;
  // Redis 5 has its own words for it.
  if (/^WRONGPASS|^ERR invalid password/.test(message)) return `user or password is wrong (${message})`;
  if (/^(MOVED|CROSSSLOT)\b|not allowed in cluster mode/.test(message)) return `${message}; ${IS_CLUSTER}`;
  if (/DB index/.test(message))
    return `${message}: it has no database with the number in REDIS_URL; \`databases\` in its configuration says how many there are`;
  if (message.includes("cluster support disabled")) return "it is not in cluster mode; its REDIS_URL begins with redis:// or rediss://";
  return message;
}

/** Whether what answers does not speak Redis' protocol, in ioredis' words. */
export function isOtherProtocol({ message }: Error): boolean {
  return message.includes("Unknown RESP type");
}

/** Whether this is Redis' answer to the SELECT that ioredis sends while connecting. */
export function isSelectError(error: Error & { readonly command?: { readonly name: string } }): boolean {
  return error.command?.name === "select";
}

/** What Redis replied, from its code on: before Redis 7 the error of a script only quotes the reply of the command (src/scripting.c). */
function redisReply({ message }: Error): string {
  return message.replace(/^ERR Error running script .*: -/, "");
}

/** A node of a cluster that was taken for the only one. */
export const IS_CLUSTER = "it is a node of a cluster, whose REDIS_URL begins with redis+cluster:// or rediss+cluster://";

// What an error of a command means to whoever holds the data.

/** Replies of a server that cannot serve now: loading, failing over, full, busy with a script, refusing to write, not the one with this key. */
const PASSING =
  /^(LOADING|BUSY|OOM|READONLY|MASTERDOWN|NOREPLICAS|MISCONF|CLUSTERDOWN|TRYAGAIN|UNBLOCKED|NOAUTH|NOPERM|WRONGPASS|EXECABORT|MOVED|ASK|CROSSSLOT)\b/;

/** What a script of ours may not do, in the words of Redis before 7.2 (src/script.c, src/scripting.c). */
const FORBIDDEN_IN_SCRIPT = /The user executing the script can't/;

/**
 * Whether an error of a command has nothing to do with the command: there is no connection, or Redis cannot serve now. What is left is a reply
 * about the command and its data, such as WRONGTYPE.
 */
export function isRedisAway(error: Error): boolean {
  return error.name !== "ReplyError" || PASSING.test(redisReply(error)) || FORBIDDEN_IN_SCRIPT.test(error.message);
}

/** Whether Redis refused a write because it is at `maxmemory`. */
export function isOutOfMemory(error: Error): boolean {
  return redisReply(error).startsWith("OOM ");
}

/** An error of a command as one that passes: the caller keeps its data and calls again. @param what was being done. */
export function redisUnavailable(what: string, error: Error): UnavailableError {
  return new UnavailableError(`Redis: ${what} failed (${redisProblem(error)})`, { cause: error });
}
