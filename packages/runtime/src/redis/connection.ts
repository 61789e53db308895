/** A connection to our Redis: one server or a cluster. */
import { Cluster, type Redis } from "ioredis";
import { toError } from "../errors.ts";

/** Both have the same commands. All keys of a command must have the same hash tag. For several commands, see `sendTogether`. */
export type RedisConnection = Redis | Cluster;

/** Whether all keys of a script call, too, must have the same hash tag. */
export function isCluster(redis: RedisConnection): redis is Cluster {
  return redis instanceof Cluster;
}

/** Each server that accepts writes, for commands about a server: `INFO`, `CONFIG`. */
export function mastersOf(redis: RedisConnection): readonly Redis[] {
  return isCluster(redis) ? redis.nodes("master") : [redis];
}

/** A command's name and arguments. */
export type RedisCommand = (string | number)[];

/**
 * Sends several commands in one round trip. Returns their replies in order, with an error in place of the reply of a failed command.
 *
 * On a cluster, each command goes to its own node and is redirected separately. A pipeline is limited to one node, and while slots move it
 * fails as soon as its commands get different redirections.
 */
export async function sendTogether(redis: RedisConnection, commands: RedisCommand[]): Promise<unknown[]> {
  if (isCluster(redis)) return Promise.all(commands.map(([name = "", ...args]) => redis.call(String(name), args).catch(toError)));
  const results = (await redis.pipeline(commands).exec()) ?? [];
  return results.map(([error, reply]) => error ?? reply);
}
