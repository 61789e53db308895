/** A connection to our Redis, be it one server or a cluster. */
import { Cluster, type Redis } from "ioredis";

/** One has the commands of the other. Keys of one command must have the same hash tag; of several commands, see `sendTogether`. */
export type RedisConnection = Redis | Cluster;

/** Each server that takes writes, for commands that ask about a server: `INFO`, `CONFIG`. */
export function mastersOf(redis: RedisConnection): readonly Redis[] {
  return redis instanceof Cluster ? redis.nodes("master") : [redis];
}
