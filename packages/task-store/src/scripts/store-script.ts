/** Runs one Lua script for many shards in one round trip. */
import { type RedisConnection, onRedis, sendTogether } from "@celery-metrics-exporter/runtime";
import { createHash } from "node:crypto";

/** A call of the script. In a cluster, all its keys belong to one shard. */
export interface ScriptCall {
  readonly keys: readonly string[];
  readonly args: readonly string[];
}

/** Calls a script by its hash, and sends its source to a Redis node that does not know it. In a cluster, each node has to load it. */
export class StoreScript {
  readonly #redis: RedisConnection;
  readonly #source: string;
  readonly #sha: string;
  readonly #what: string;

  /** @param what names it, for the message of an error. */
  constructor(redis: RedisConnection, source: string, what = "a script of the Store") {
    this.#redis = redis;
    this.#source = source;
    this.#what = what;
    this.#sha = createHash("sha1").update(source).digest("hex");
  }

  /**
   * Makes all calls together. Replies are in the order of the calls. If one call fails, others may have run.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async run(calls: readonly ScriptCall[]): Promise<unknown[]> {
    if (calls.length === 0) return [];
    return onRedis(this.#what, async () => {
      const replies = await this.#send("evalsha", this.#sha, calls);
      const unknown = calls.filter((_, index) => isNotLoaded(replies[index]));
      if (unknown.length > 0) {
        const repeated = (await this.#send("eval", this.#source, unknown)).values();
        for (const [index, reply] of replies.entries()) if (isNotLoaded(reply)) replies[index] = repeated.next().value;
      }
      for (const reply of replies) if (reply instanceof Error) throw reply;
      return replies;
    });
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
