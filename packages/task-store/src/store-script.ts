/** Runs one Lua script for many shards in one round trip. */
import { createHash } from "node:crypto";
import type { Redis } from "ioredis";
import { toStoreError } from "./redis-errors.ts";

/** A call of the script: all its keys are of one shard. */
export interface ScriptCall {
  readonly keys: readonly string[];
  readonly args: readonly string[];
}

/** A script that is known to Redis by its hash, and loaded where it is not. */
export class StoreScript {
  readonly #redis: Redis;
  readonly #source: string;
  readonly #sha: string;

  constructor(redis: Redis, source: string) {
    this.#redis = redis;
    this.#source = source;
    this.#sha = createHash("sha1").update(source).digest("hex");
  }

  /**
   * Makes all calls as one pipeline; replies are in the order of the calls. Calls may have run when one of them fails.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async run(calls: readonly ScriptCall[]): Promise<unknown[]> {
    if (calls.length === 0) return [];
    try {
      const replies = await this.#pipeline(calls);
      const unknown = calls.filter((_, index) => isNotLoaded(replies[index]));
      if (unknown.length > 0) {
        await this.#redis.script("LOAD", this.#source);
        const repeated = (await this.#pipeline(unknown)).values();
        for (const [index, reply] of replies.entries()) if (isNotLoaded(reply)) replies[index] = repeated.next().value;
      }
      for (const reply of replies) if (reply instanceof Error) throw reply;
      return replies;
    } catch (thrown) {
      throw toStoreError(thrown);
    }
  }

  async #pipeline(calls: readonly ScriptCall[]): Promise<unknown[]> {
    const pipeline = this.#redis.pipeline();
    for (const { keys, args } of calls) pipeline.evalsha(this.#sha, keys.length, ...keys, ...args);
    const results = (await pipeline.exec()) ?? [];
    return results.map(([error, reply]) => error ?? reply);
  }
}

function isNotLoaded(reply: unknown): boolean {
  return reply instanceof Error && reply.message.startsWith("NOSCRIPT");
}
