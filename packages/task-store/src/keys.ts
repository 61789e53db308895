/**
 * The Store's keys: `{cme:<shard>}:<owner>:task:<id>`, and `{cme:<shard>}:<owner>:open` for a shard's count of open tasks. The owner is the
 * exporter whose Store it is. Redis Cluster spreads the shards, and one script call serves all tasks of a shard.
 */
import { groupBy } from "./facts/order.ts";
import { hash32 } from "./facts/encoding.ts";

export const SHARDS = 16;

/** Builds keys under a prefix: `QUEUE_PREFIX` without its braces, since a key has but one hash tag and ours holds the shard too. */
export class StoreKeys {
  readonly #beforeId: readonly string[];
  /** By shard. */
  readonly open: readonly string[];

  constructor(queuePrefix: string, owner: string) {
    const prefix = queuePrefix.replace(/[{}]/g, "");
    const shards = Array.from({ length: SHARDS }, (_, shard) => `{${prefix}:${shard}}:${owner}`);
    this.#beforeId = shards.map((shard) => `${shard}:task:`);
    this.open = shards.map((shard) => `${shard}:open`);
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
