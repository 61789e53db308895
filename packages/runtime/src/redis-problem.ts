/** What Redis answers, in words that tell what to do. */

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
export function redisReply({ message }: Error): string {
  return message.replace(/^ERR Error running script .*: -/, "");
}

/** A node of a cluster that was taken for the only one. */
export const IS_CLUSTER = "it is a node of a cluster, whose REDIS_URL begins with redis+cluster:// or rediss+cluster://";
