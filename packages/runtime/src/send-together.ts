/** Several commands in one round trip, wherever their keys are. */
import { Cluster } from "ioredis";
import { toError } from "./errors.ts";
import type { RedisConnection } from "./redis-connection.ts";

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
