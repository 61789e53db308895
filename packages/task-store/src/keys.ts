/**
 * The Store's keys: `{cme:<shard>}:<owner>:task:<id>` for a task, and `{cme:<shard>}:<owner>:open` for a shard's count of open tasks. The
 * owner is the exporter that the Store belongs to. Redis Cluster distributes the shards, and one script call handles all tasks of a shard.
 */
import { groupBy } from "./facts/order.ts";
import { hash32 } from "./facts/encoding.ts";

export const SHARDS = 16;

/** Precedes a task's id where only its retries are to be reported. No id contains a NUL. */
const RETRIES_OF = "\0";

export function retriesOf(id: string): string {
  return `${RETRIES_OF}${id}`;
}

export function isOfRetries(id: string): boolean {
  return id.startsWith(RETRIES_OF);
}

/** The task's id alone. */
export function taskIdOf(id: string): string {
  return isOfRetries(id) ? id.slice(RETRIES_OF.length) : id;
}

/** Builds keys under a prefix: `QUEUE_PREFIX` without its braces, because a key has only one hash tag and ours also contains the shard. */
export class StoreKeys {
  readonly #shardCount: number;
  readonly #beforeId: readonly string[];
  /** The key of each shard's count of open tasks. */
  readonly open: readonly string[];

  constructor(queuePrefix: string, owner: string, shardCount = SHARDS) {
    this.#shardCount = shardCount;
    const prefix = queuePrefix.replace(/[{}]/g, "");
    const shards = Array.from({ length: shardCount }, (_, shard) => `{${prefix}:${shard}}:${owner}`);
    this.#beforeId = shards.map((shard) => `${shard}:task:`);
    this.open = shards.map((shard) => `${shard}:open`);
  }

  /** Groups what belongs to tasks by their shard. Keeps the order within a shard. */
  byShard<T>(items: Iterable<T>, idOf: (item: T) => string): Map<number, T[]> {
    return groupBy(items, (item) => this.#shardOf(idOf(item)));
  }

  keyOf(id: string, shard = this.#shardOf(id)): string {
    return `${this.#beforeId[shard]}${taskIdOf(id)}`;
  }

  #shardOf(id: string): number {
    return this.#shardCount === 1 ? 0 : hash32(taskIdOf(id)) % this.#shardCount;
  }
}

/**
 * Fewer, because every look at the counts reads all of them, and every batch changes most counts in each of them. One Redis has nothing to spread. Its only
 * shard is the first one of a cluster, so counts outlive a move to a cluster.
 */
const COUNT_SHARDS = { ofOneRedis: 1, ofCluster: 4 };

/** The keys of an exporter that counts: its tasks, and for each shard `{cme:<shard>}:<owner>:counts` with `:floors` and `:reads` beside it. */
export class CountKeys extends StoreKeys {
  readonly counts: readonly (readonly string[])[];

  constructor(queuePrefix: string, owner: string, isClustered: boolean) {
    super(queuePrefix, owner, isClustered ? COUNT_SHARDS.ofCluster : COUNT_SHARDS.ofOneRedis);
    this.counts = this.open.map((open) => ["counts", "floors", "reads"].map((name) => open.replace(/open$/, name)));
  }
}

/** The tasks of one script call, by shard: their ids, or what belongs to them. */
export type Part<T = string> = readonly (readonly [shard: number, tasks: readonly T[]])[];

/** Tasks from which a call is large enough, so that Redis can serve others in between. */
const ENOUGH_TASKS = 250;

/**
 * A call costs as much as several tasks, and a small batch has few of each shard. So it is best to have several shards in one call, which
 * a cluster does not permit.
 */
export function inCalls<T>(shards: Part<T>, isClustered: boolean): readonly Part<T>[] {
  if (isClustered) return shards.map((shard) => [shard]);
  const parts: (readonly [number, readonly T[]])[][] = [];
  let tasks = ENOUGH_TASKS;
  for (const shard of shards) {
    if (tasks >= ENOUGH_TASKS) {
      parts.push([]);
      tasks = 0;
    }
    parts.at(-1)?.push(shard);
    tasks += shard[1].length;
  }
  return parts;
}

/** Splits the shards of a part that have more tasks than Redis should work on without serving others. */
export function inPages<T>(shards: Part<T>, most: number): Part<T> {
  return shards.flatMap(([shard, tasks]) =>
    Array.from({ length: Math.ceil(tasks.length / most) }, (_, page) => [shard, tasks.slice(page * most, (page + 1) * most)] as const),
  );
}

/** How many tasks each shard of a call has, as the scripts take it. */
export function sizesOf(part: Part<unknown>): string[] {
  return part.map(([, tasks]) => String(tasks.length));
}
