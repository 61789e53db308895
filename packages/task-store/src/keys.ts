/**
 * The Store's keys: `{cme:<shard>}:task:<id>`, and `{cme:<shard>}:open` for a shard's count of open tasks. Redis Cluster spreads the shards, and
 * one script call serves all tasks of a shard.
 */
import { groupBy } from "./facts/order.ts";
import { hash32 } from "./facts/encoding.ts";

export const SHARDS = 16;

/** Builds keys under a prefix: `QUEUE_PREFIX` without its braces, since a key has but one hash tag and ours holds the shard too. */
export class StoreKeys {
  readonly #beforeId: readonly string[];
  /** By shard. */
  readonly open: readonly string[];

  constructor(queuePrefix: string) {
    const prefix = queuePrefix.replace(/[{}]/g, "");
    const tags = Array.from({ length: SHARDS }, (_, shard) => `{${prefix}:${shard}}`);
    this.#beforeId = tags.map((tag) => `${tag}:task:`);
    this.open = tags.map((tag) => `${tag}:open`);
  }

  /** Sorts ids by the shard that holds them; within a shard in the order given. */
  byShard(ids: Iterable<string>): Map<number, string[]> {
    return groupBy(ids, shardOf);
  }

  keyOf(id: string, shard = shardOf(id)): string {
    return `${this.#beforeId[shard]}${id}`;
  }
}

function shardOf(id: string): number {
  return hash32(id) % SHARDS;
}
