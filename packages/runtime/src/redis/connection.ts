/** A connection to our Redis, be it one server or a cluster. */
import { Cluster, type Redis } from "ioredis";
import { toError } from "../errors.ts";

/** One has the commands of the other. Keys of one command must have the same hash tag; of several commands, see `sendTogether`. */
export type RedisConnection = Redis | Cluster;

/** Each server that takes writes, for commands that ask about a server: `INFO`, `CONFIG`. */
export function mastersOf(redis: RedisConnection): readonly Redis[] {
  return redis instanceof Cluster ? redis.nodes("master") : [redis];
}

// Several commands in one round trip, wherever their keys are.

/** Its name and its arguments. */
export type RedisCommand = (string | number)[];

/**
 * Sends the commands at once. Replies are in their order; in place of one that failed stands its error.
 *
 * On a cluster each goes to its own node and is redirected on its own: a pipeline has to stay on one node, and while slots move between nodes
 * it fails as soon as its commands fare differently.
 */
export async function sendTogether(redis: RedisConnection, commands: RedisCommand[]): Promise<unknown[]> {
  if (redis instanceof Cluster) return Promise.all(commands.map(([name = "", ...args]) => redis.call(String(name), args).catch(toError)));
  const results = (await redis.pipeline(commands).exec()) ?? [];
  return results.map(([error, reply]) => error ?? reply);
}
