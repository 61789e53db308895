/**
 * Counts over all tasks, kept in Redis, exact whatever happens to the processes that count.
 *
 * Each task's facts are merged as in the Store. What the task contributes to the counts follows from its facts alone, and is stored with the task. When it
 * changes, one script stores the new contribution and adds the difference. So the counts are always the sum of what the tasks contribute: an event that
 * comes twice changes nothing, and an event that comes late moves what was counted without it. docs/adr/0013-counts.md explains this.
 */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import type { FactOptions, Facts } from "../facts/fact.ts";
import { toBase36 } from "../facts/encoding.ts";
import { type TaskChange, collectChanges } from "../facts/task-changes.ts";
import { type TaskEntry, parseTaskEntry } from "../facts/task-entry.ts";
import { textKeyOf } from "../facts/texts.ts";
import { CountKeys } from "../keys.ts";
import { type ScriptCall, StoreScript } from "../scripts/store-script.ts";
import { type Contribution, NOTHING, difference, readContribution, writeContribution } from "./contribution.ts";
import { COUNT_SCRIPT, MERGE_SCRIPT, READ_SCRIPT } from "./count-scripts.ts";

export interface TaskCountsOptions extends FactOptions {
  readonly redis: RedisConnection;
  /** The queues' prefix. The keys use it without its braces. */
  readonly queuePrefix: string;
  /** The exporter that counts. */
  readonly owner: string;
  /** How long a task is kept after its last change, in seconds. */
  readonly taskExpirySeconds: number;
  /** How long a task is kept after its last change once it has ended. A repeated event that comes later counts again. */
  readonly endedExpirySeconds: number;
}

/** A task as it was read. */
export interface CountedTask {
  readonly id: string;
  readonly entry: TaskEntry;
  /** What it contributes so far, as stored. */
  readonly stored: string;
  /** Whether its missing events are not waited for any longer. */
  readonly isFinalLook: boolean;
  /** If it has very many events: those to keep. The others are counted for good. */
  readonly kept: KeptPart | undefined;
}

export interface KeptPart {
  readonly entry: TaskEntry;
  readonly removed: readonly string[];
  /** The instant up to which events are removed, in microseconds. */
  readonly past: number;
}

/** What to store of a task. */
export interface CountChange {
  readonly task: CountedTask;
  readonly contribution: Contribution;
  /** What the kept part alone contributes, if there is one. */
  readonly keptContribution: Contribution | undefined;
  readonly isFinalLook: boolean;
  readonly ended: boolean;
}

/** Facts from which a task is long, and how many of its latest facts are then kept. */
const LONG = 128;
const KEPT = 64;

/** Every method throws `UnavailableError` if Redis is unavailable. Calling it again with the same arguments is always safe. */
export class TaskCounts {
  readonly #options: TaskCountsOptions;
  readonly #keys: CountKeys;
  readonly #merge: StoreScript;
  readonly #count: StoreScript;
  readonly #read: StoreScript;

  constructor(options: TaskCountsOptions) {
    this.#options = options;
    this.#keys = new CountKeys(options.queuePrefix, options.owner);
    this.#merge = new StoreScript(options.redis, MERGE_SCRIPT);
    this.#count = new StoreScript(options.redis, COUNT_SCRIPT);
    this.#read = new StoreScript(options.redis, READ_SCRIPT);
  }

  /** Merges events into their tasks, and returns these tasks. */
  async merge(events: readonly CeleryEvent[]): Promise<CountedTask[]> {
    return this.#mergeChanges(collectChanges(events, this.#options));
  }

  /** The tasks with these ids. */
  async read(ids: Iterable<string>): Promise<CountedTask[]> {
    return this.#mergeChanges(new Map([...ids].map((id) => [id, NO_CHANGE])));
  }

  /**
   * Stores what tasks contribute, and adds the difference to the counts. A change without difference costs nothing.
   *
   * @returns the ids of tasks that were changed since they were read. They have to be read again.
   */
  async add(changes: readonly CountChange[]): Promise<string[]> {
    const { endedExpirySeconds, taskExpirySeconds } = this.#options;
    return this.#change(changes, ({ task, contribution, keptContribution, isFinalLook, ended }) => {
      const { kept, stored } = task;
      const written = writeContribution(keptContribution ?? contribution);
      if (written === stored && kept === undefined && isFinalLook === task.isFinalLook) return undefined;
      const added = written === stored && kept === undefined ? [] : difference(readContribution(stored), contribution);
      const expiry = ended ? endedExpirySeconds : taskExpirySeconds;
      const past = kept === undefined ? "" : toBase36(kept.past);
      return [stored, written, expiry, isFinalLook ? 1 : 0, past, kept?.removed ?? [], added];
    });
  }

  /** Removes tasks, and what they contribute. Returns the ids of tasks that were changed since they were read. */
  async remove(tasks: readonly CountedTask[]): Promise<string[]> {
    return this.#change(
      tasks.map((task) => ({ task })),
      ({ task: { stored } }) => [stored, "", 0, 0, "", [], difference(readContribution(stored), NOTHING)],
    );
  }

  /**
   * The sum of all shards. A count never falls below what an earlier call returned, even if late events moved what was counted, unless Redis lost it.
   *
   * @throws {UnavailableError} if a shard cannot be read.
   */
  async totals(): Promise<Map<string, number>> {
    const totals = new Map<string, number>();
    for (const reply of await this.#read.run(this.#keys.counts.map((keys) => ({ keys, args: [] })))) {
      const [counts, floors] = reply as [string[], string[]];
      const lowest = new Map<string, number>();
      for (let index = 0; index < floors.length; index += 2) lowest.set(floors[index] as string, Number(floors[index + 1]));
      for (let index = 0; index < counts.length; index += 2) {
        const field = counts[index] as string;
        const count = Math.max(Number(counts[index + 1]), lowest.get(field) ?? 0);
        totals.set(field, (totals.get(field) ?? 0) + count);
        lowest.delete(field);
      }
      for (const [field, floor] of lowest) totals.set(field, (totals.get(field) ?? 0) + floor);
    }
    return totals;
  }

  async #mergeChanges(changes: ReadonlyMap<string, TaskChange>): Promise<CountedTask[]> {
    const shards = [...this.#keys.byShard(changes.keys())];
    const calls = shards.map(([shard, ids]): ScriptCall => {
      const written = ids.map((id) => {
        const { facts, details, texts } = changes.get(id) ?? NO_CHANGE;
        return [facts, details, texts.flatMap(({ fields }) => fields)];
      });
      return {
        keys: ids.map((id) => this.#keys.keyOf(id, shard)),
        args: [String(this.#options.taskExpirySeconds), JSON.stringify(written)],
      };
    });
    const replies = (await this.#merge.run(calls)) as string[];
    return shards.flatMap(([, ids], call) => {
      const hashes = JSON.parse(replies[call] ?? "[]") as (readonly string[] | object)[];
      return ids.map((id, index) => toTask(id, hashes[index] ?? []));
    });
  }

  /** @param write a change in the format of `COUNT_SCRIPT`; undefined if there is nothing to do. */
  async #change<C extends { readonly task: CountedTask }>(
    changes: readonly C[],
    write: (change: C) => unknown[] | undefined,
  ): Promise<string[]> {
    const written = new Map<string, unknown[]>();
    for (const change of changes) {
      const line = write(change);
      if (line !== undefined) written.set(change.task.id, line);
    }
    const shards = [...this.#keys.byShard(written.keys())];
    const calls = shards.map(([shard, ids]): ScriptCall => {
      const keys = [...(this.#keys.counts[shard] ?? []), ...ids.map((id) => this.#keys.keyOf(id, shard))];
      return { keys, args: [JSON.stringify(ids.map((id) => written.get(id)))] };
    });
    const replies = (await this.#count.run(calls)) as number[][];
    return shards.flatMap(([, ids], call) => (replies[call] ?? []).map((index) => ids[index - 1] ?? ""));
  }
}

const NO_CHANGE: TaskChange = { facts: [], details: [], texts: [], etaSeconds: 0 };

/** @param reply Lua writes an empty hash as an object. */
function toTask(id: string, reply: readonly string[] | object): CountedTask {
  const hash: readonly string[] = Array.isArray(reply) ? reply : [];
  let stored = "";
  let isFinalLook = false;
  for (let index = 0; index < hash.length; index += 2) {
    if (hash[index] === "x") stored = hash[index + 1] ?? "";
    else if (hash[index] === "d") isFinalLook = true;
  }
  const entry = parseTaskEntry(hash);
  return { id, entry, stored, isFinalLook, kept: entry.size > LONG ? keptPart(entry.facts, hash) : undefined };
}

/** The latest facts of a hash, with the texts that they refer to. */
function keptPart({ sent, received, started, finals, repeats }: Facts, hash: readonly string[]): KeptPart | undefined {
  const facts = [...sent, ...received, ...started, ...finals, ...repeats];
  const past = facts.map(({ at }) => at).toSorted((a, b) => b - a)[KEPT];
  if (past === undefined) return undefined;
  const removed = new Set(facts.filter(({ at }) => at <= past).map(({ field }) => field));
  const used = new Set(
    [...sent, ...received].filter(({ at }) => at > past).flatMap((fact) => ("queue" in fact ? [fact.name, fact.queue] : [fact.name])),
  );
  for (let index = 0; index < hash.length; index += 2) {
    const field = hash[index] ?? "";
    if (field[0] === "n" && !used.has(textKeyOf(field))) removed.add(field);
  }
  const left = hash.filter((_, index) => !removed.has(hash[index - (index % 2)] ?? ""));
  return { entry: parseTaskEntry(left), removed: [...removed], past };
}
