/** Runs one Lua script for many shards in one round trip. */
import { type RedisConnection, isRedisAway, redisUnavailable, sendTogether, toError } from "@celery-metrics-exporter/runtime";
import { createHash } from "node:crypto";

/** A call of the script: all its keys are of one shard. */
export interface ScriptCall {
  readonly keys: readonly string[];
  readonly args: readonly string[];
}

/** A script that is known to Redis by its hash, and sent as a whole where it is not: each node of a cluster has to learn it. */
export class StoreScript {
  readonly #redis: RedisConnection;
  readonly #source: string;
  readonly #sha: string;

  constructor(redis: RedisConnection, source: string) {
    this.#redis = redis;
    this.#source = source;
    this.#sha = createHash("sha1").update(source).digest("hex");
  }

  /**
   * Makes all calls together; replies are in the order of the calls. Calls may have run when one of them fails.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async run(calls: readonly ScriptCall[]): Promise<unknown[]> {
    if (calls.length === 0) return [];
    try {
      const replies = await this.#send("evalsha", this.#sha, calls);
      const unknown = calls.filter((_, index) => isNotLoaded(replies[index]));
      if (unknown.length > 0) {
        const repeated = (await this.#send("eval", this.#source, unknown)).values();
        for (const [index, reply] of replies.entries()) if (isNotLoaded(reply)) replies[index] = repeated.next().value;
      }
      for (const reply of replies) if (reply instanceof Error) throw reply;
      return replies;
    } catch (thrown) {
      const error = toError(thrown);
      throw isRedisAway(error) ? redisUnavailable("a script of the Store", error) : error;
    }
  }

  #send(command: "eval" | "evalsha", script: string, calls: readonly ScriptCall[]): Promise<unknown[]> {
    return sendTogether(
      this.#redis,
      calls.map(({ keys, args }) => [command, script, keys.length, ...keys, ...args]),
    );
  }
}

function isNotLoaded(reply: unknown): boolean {
  return reply instanceof Error && reply.message.startsWith("NOSCRIPT");
}
