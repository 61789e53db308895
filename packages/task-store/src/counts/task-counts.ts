/**
 * Counts over all tasks, kept in Redis, exact whatever happens to the processes that count.
 *
 * Each task's facts are merged as in the Store. What the task contributes to the counts follows from its facts alone, and is stored with the task. When it
 * changes, one script stores the new contribution and adds the difference. So the counts are always the sum of what the tasks contribute: an event that
 * comes twice changes nothing, and an event that comes late moves what was counted without it. docs/adr/0013-counts.md explains this.
 *
 * A process computes a change from what it knows of the task: what it stored last, or else that the task is new. If another process has changed the task,
 * nothing is stored, and the reply says what Redis knows. So in the usual case a batch costs one call, on a cluster one for each shard.
 */
import { type CeleryEvent, isTaskEvent } from "@celery-metrics-exporter/celery";
import { type RedisConnection, isCluster, onRedis } from "@celery-metrics-exporter/runtime";
import { toBase36 } from "../facts/encoding.ts";
import type { FactOptions } from "../facts/fact.ts";
import { type TaskChange, collectChanges } from "../facts/task-changes.ts";
import type { TaskEntry } from "../facts/task-entry.ts";
import { CountKeys, type Part, inCalls, inPages, sizesOf } from "../keys.ts";
import { type ScriptCall, StoreScript } from "../scripts/store-script.ts";
import { type Contribution, NOTHING, difference, writeContribution } from "./contribution.ts";
import { COUNT_SCRIPT, READ_SCRIPT } from "./count-scripts.ts";
import { type CountedTask, type KeptPart, UNKNOWN_TASK, keptPart, merge, readCountedTask } from "./counted-task.ts";

export interface TaskCountsOptions extends FactOptions {
  readonly redis: RedisConnection;
  /** The queues' prefix. The keys use it without its braces. */
  readonly queuePrefix: string;
  /** The exporter that counts. */
  readonly owner: string;
  /** How long a task is kept after it was last changed, in seconds, exact to a seventh. */
  readonly taskExpirySeconds: number;
  /** How long a task is kept after it was last changed once it has ended. A repeated event that comes later counts again. */
  readonly endedExpirySeconds: number;
  /** Looks at tasks. The answers are in the same order. */
  readonly lookAt: (tasks: readonly LookedAt[]) => Promise<readonly Look[]>;
  /** Called when Redis does not have a task any more that this process remembers: it may have lost everything. */
  readonly onLoss?: () => void;
}

/** What Redis holds of one shard, each as alternating fields and numbers, separated by spaces. */
export interface ShardCounts {
  readonly counts: string;
  /** The least that is shown of some fields. */
  readonly floors: string;
}

/** What the counting code says of a task. */
export interface Look {
  readonly contribution: Contribution;
  /** Whether something of it could not be counted yet, because a name or queue is missing. */
  readonly isIncomplete: boolean;
  readonly ended: boolean;
}

/** A task to look at. */
export interface LookedAt extends TaskEntry {
  /** Whether its missing events are not waited for any longer. */
  readonly isFinalLook: boolean;
}

/** Tasks that a process remembers until they end, so that their next change costs one call. */
const MOST_REMEMBERED = 20_000;
/** A task's first version is any number below this. */
const FIRST_VERSIONS = 2 ** 31 - 1;
/** By which part of it an expiry may be wrong before it is set again. */
const EXPIRY_TOLERANCE = 1 / 7;

/**
 * Tasks of one shard that are computed and stored together. What all tasks of a large batch need would outlive several collections of garbage, which then
 * cost as much as the work. But each call reads and writes most counts once more, and lets Redis serve others only afterwards.
 */
const TASKS_AT_ONCE = 250;

/** Fields that one command removes. */
const PAGE = 1_000;

const NO_FIELDS: readonly string[] = [];
const NO_CHANGE: TaskChange = { facts: [], details: [], texts: [], etaSeconds: 0 };

/** A task with what a batch adds to it. */
interface Change {
  readonly id: string;
  /** What it is computed from. */
  readonly from: CountedTask;
  readonly task: CountedTask;
  /** Alternating fields and values. */
  readonly added: string[];
  readonly kept: KeptPart | undefined;
}

/** One task in a call of `COUNT_SCRIPT`. */
interface Line {
  readonly id: string;
  /** What it is computed from. */
  readonly from: CountedTask;
  /** In seconds: 0 for no change, -1 to remove the task. */
  readonly ttl: number;
  /** Alternating fields and values. */
  readonly set: readonly string[];
  readonly removed: readonly string[];
  /** What to add to the counts. */
  readonly difference: Contribution;
}

/** A change, and what follows from it. */
interface Computed extends Line {
  readonly look: Look;
  readonly isChange: boolean;
  /** The task once the change is stored. */
  readonly task: CountedTask;
}

interface Stored {
  /** The tasks of all calls in which some task had another version. Nothing of them was stored. */
  readonly refused: ReadonlySet<string>;
  /** Those that had another version. */
  readonly others: ReadonlyMap<string, CountedTask>;
}

/** Every method throws `UnavailableError` if Redis is unavailable. Calling it again with the same arguments is always safe. */
export class TaskCounts {
  readonly #options: TaskCountsOptions;
  readonly #keys: CountKeys;
  readonly #count: StoreScript;
  readonly #read: StoreScript;
  readonly #tasksAtOnce: number;
  readonly #remembered = new Map<string, CountedTask>();
  /** The changes under way: their tasks, and when they are over. */
  readonly #underWay = new Set<{ readonly ids: ReadonlyMap<string, unknown>; readonly over: Promise<unknown> }>();

  constructor(options: TaskCountsOptions) {
    this.#options = options;
    this.#keys = new CountKeys(options.queuePrefix, options.owner, isCluster(options.redis));
    this.#tasksAtOnce = TASKS_AT_ONCE * this.#keys.counts.length;
    this.#count = new StoreScript(options.redis, COUNT_SCRIPT);
    this.#read = new StoreScript(options.redis, READ_SCRIPT);
  }

  /** Merges events into their tasks, and counts them. Returns the ids of the tasks that are incomplete. */
  async add(events: readonly CeleryEvent[]): Promise<string[]> {
    const { parts, ids } = byTask(events, this.#tasksAtOnce);
    return this.#inTurn(ids, async () => {
      const incomplete: string[] = [];
      for (const part of parts) {
        const computed = await this.#change(collectChanges(part, this.#options), false);
        for (const { id, look } of computed) if (look.isIncomplete) incomplete.push(id);
      }
      return incomplete;
    });
  }

  /** Counts everything of these tasks, whatever is missing. Returns how many of them are known. */
  async giveUpWaiting(ids: Iterable<string>): Promise<number> {
    const changes = [...new Set(ids)].map((id) => [id, NO_CHANGE] as const);
    return this.#inTurn(new Map(changes), async () => {
      let known = 0;
      for (let from = 0; from < changes.length; from += this.#tasksAtOnce) {
        const computed = await this.#change(new Map(changes.slice(from, from + this.#tasksAtOnce)), true);
        known += computed.filter(({ task }) => task.size > 0).length;
      }
      return known;
    });
  }

  /** Removes tasks that have no `task-sent`, with what they contributed. Returns how many. */
  async forget(ids: Iterable<string>): Promise<number> {
    const tasks = new Map([...ids].map((id) => [id, UNKNOWN_TASK]));
    return this.#inTurn(tasks, () => this.#forget(tasks));
  }

  async #forget(tasks: ReadonlyMap<string, CountedTask>): Promise<number> {
    let forgotten = 0;
    let left = tasks;
    while (left.size > 0) {
      const lines = [...left].map(([id, from]): Line => {
        return { id, from, ttl: -1, set: NO_FIELDS, removed: NO_FIELDS, difference: difference(from.contribution, NOTHING) };
      });
      const { refused, others } = await this.#store(lines);
      for (const [id, { version }] of left) {
        this.#remembered.delete(id);
        if (version !== "" && !refused.has(id)) forgotten += 1;
      }
      const again = [...refused].map((id) => [id, others.get(id) ?? left.get(id) ?? UNKNOWN_TASK] as const);
      left = new Map(again.filter(([, { facts }]) => facts.sent.length === 0));
    }
    return forgotten;
  }

  /**
   * The counts of each shard, for a `CountTable`. A count never falls below what an earlier call returned, even if late events moved what was counted,
   * unless Redis lost it.
   *
   * @throws {UnavailableError} if a shard cannot be read.
   */
  async read(): Promise<ShardCounts[]> {
    const replies = (await this.#read.run(this.#keys.counts.map((keys) => ({ keys, args: [] })))) as [counts: string, floors: string][];
    return replies.map(([counts, floors]) => ({ counts, floors }));
  }

  /**
   * Removes fields. Nothing may count in them any more.
   *
   * @param isGone decides for each field.
   * @throws {UnavailableError} if a shard is unavailable.
   */
  async drop(isGone: (field: string) => boolean): Promise<void> {
    const fields = await Promise.all(
      this.#keys.counts.map(([counts = ""]) => onRedis("the counts", async () => Object.keys(await this.#options.redis.hgetall(counts)))),
    );
    for (const [shard, own] of fields.entries()) {
      const gone = own.filter(isGone);
      for (let from = 0; from < gone.length; from += PAGE) {
        const page = gone.slice(from, from + PAGE);
        for (const key of (this.#keys.counts[shard] ?? []).slice(0, 2))
          await onRedis("the counts", () => this.#options.redis.hdel(key, ...page));
      }
    }
  }

  /**
   * Waits for the changes under way that share a task with this one. Otherwise it would be computed from what they are about to change, and refused: a
   * process works on several batches at once, and the events of a task are often in two that follow each other.
   */
  async #inTurn<T>(ids: ReadonlyMap<string, unknown>, work: () => Promise<T>): Promise<T> {
    const before = [...this.#underWay].filter((other) => shareAny(ids, other.ids)).map(({ over }) => over);
    const result = before.length === 0 ? work() : Promise.allSettled(before).then(work);
    const own = { ids, over: result };
    this.#underWay.add(own);
    try {
      return await result;
    } finally {
      this.#underWay.delete(own);
    }
  }

  async #change(changes: ReadonlyMap<string, TaskChange>, isFinalLook: boolean): Promise<Computed[]> {
    const done: Computed[] = [];
    /** What Redis said of tasks that another process has changed. */
    const read = new Map<string, CountedTask>();
    for (let left: Iterable<string> = changes.keys(), refusedAny = true; refusedAny;) {
      const merged = Array.from(left, (id) => this.#merge(id, read.get(id), changes.get(id) ?? NO_CHANGE, isFinalLook));
      const computed = await this.#compute(merged);
      const changed = computed.filter(({ isChange }) => isChange);
      const { refused, others } = await this.#store(changed);
      for (const { id, from } of changed) {
        const other = others.get(id);
        if (other === undefined) continue;
        if (other.version === "" && from.version !== "") this.#options.onLoss?.();
        read.set(id, other);
      }
      for (const each of computed) {
        if (refused.has(each.id)) continue;
        this.#rememberUnlessEnded(each);
        done.push(each);
      }
      left = refused;
      refusedAny = refused.size > 0;
    }
    return done;
  }

  #merge(id: string, read: CountedTask | undefined, change: TaskChange, isFinalLook: boolean): Change {
    const from = read ?? this.#remembered.get(id) ?? UNKNOWN_TASK;
    const { task, added } = merge(from, change);
    const looked = isFinalLook && !task.isFinalLook ? { ...task, isFinalLook } : task;
    const kept = keptPart(looked);
    // What is missing of the kept part will not come, and its events must not be counted again once that is given up.
    return kept === undefined || looked.isFinalLook
      ? { id, from, task: looked, added, kept }
      : { id, from, task: { ...looked, isFinalLook: true }, added, kept: { ...kept, task: { ...kept.task, isFinalLook: true } } };
  }

  async #compute(changes: readonly Change[]): Promise<Computed[]> {
    const parts = changes.flatMap(({ kept }) => kept?.task ?? []);
    const looks = await this.#options.lookAt([...changes.map(({ task }) => task), ...parts]);
    const ofParts = looks.slice(changes.length).values();
    const now = Date.now();
    return changes.map((change, index) => {
      const look = looks[index] as Look;
      const { contribution } = change.kept === undefined ? look : (ofParts.next().value as Look);
      return this.#computed(change, look, contribution, now);
    });
  }

  /** @param contribution what it contributes from now on. Less than what was counted, if only a part of it is kept. */
  #computed({ id, from, task, added: set, kept }: Change, look: Look, contribution: Contribution, now: number): Computed {
    const changed = difference(from.contribution, look.contribution);
    const isFinalNow = task.isFinalLook && !from.isFinalLook;
    const isChange = set.length > 0 || isFinalNow || changed.length > 0;
    const removed = kept?.removed ?? NO_FIELDS;
    // A task without events is stored only to learn whether Redis knows it.
    if (!isChange || task.size === 0) return { id, from, ttl: -1, set, removed, difference: changed, look, isChange, task };
    const version = nextVersion(from);
    set.push("v", version, "x", writeContribution(contribution));
    if (isFinalNow) set.push("d", "1");
    if (kept !== undefined) set.push("p", toBase36(kept.task.past ?? 0));
    const ttl = this.#ttlOf(look, task, now);
    const renews = Math.abs(now + ttl * 1_000 - from.expiresAt) > ttl * 1_000 * EXPIRY_TOLERANCE;
    const expiresAt = renews ? now + ttl * 1_000 : from.expiresAt;
    // Of a task that has ended, nothing is remembered.
    const after = look.ended ? task : { ...(kept?.task ?? task), version, contribution, expiresAt };
    return { id, from, ttl: renews ? ttl : 0, set, removed, difference: changed, look, isChange, task: after };
  }

  /** In seconds. A task must not expire before its ETA. */
  #ttlOf({ ended }: Look, { facts: { sent, received } }: CountedTask, now: number): number {
    if (ended) return this.#options.endedExpirySeconds;
    let begins = now;
    for (const { eta = 0 } of sent) begins = Math.max(begins, eta / 1_000);
    for (const { eta = 0 } of received) begins = Math.max(begins, eta / 1_000);
    return Math.ceil((begins - now) / 1_000) + this.#options.taskExpirySeconds;
  }

  /** Nothing is expected of a task that has ended, also if only Redis knew that. If something comes, Redis knows the task. */
  #rememberUnlessEnded({ id, look, task }: Computed): void {
    if (look.ended || task.size === 0) this.#remembered.delete(id);
    else this.#remember(id, task);
  }

  #remember(id: string, task: CountedTask): void {
    // Removed and added again, so that those not changed for the longest time come first.
    this.#remembered.delete(id);
    this.#remembered.set(id, task);
    if (this.#remembered.size <= MOST_REMEMBERED) return;
    for (const oldest of this.#remembered.keys()) {
      this.#remembered.delete(oldest);
      break;
    }
  }

  async #store(lines: readonly Line[]): Promise<Stored> {
    // A shard has a few more tasks than another.
    const shards = inPages([...this.#keys.byShard(lines, ({ id }) => id)], 2 * TASKS_AT_ONCE);
    const parts = inCalls(shards, isCluster(this.#options.redis));
    const calls = parts.map((part) => this.#toCall(part));
    const replies = (await this.#count.run(calls)) as (number | readonly string[])[][][];
    const refused = new Set<string>();
    const others = new Map<string, CountedTask>();
    for (const [call, part] of parts.entries()) {
      for (const [index, [, own]] of part.entries()) {
        const reply = replies[call]?.[index] ?? [];
        if (reply.length === 0) continue;
        for (const { id } of own) refused.add(id);
        for (let at = 0; at < reply.length; at += 2) {
          others.set(own[(reply[at] as number) - 1]?.id ?? "", readCountedTask(reply[at + 1] as readonly string[]));
        }
      }
    }
    return { refused, others };
  }

  /** In the format of `COUNT_SCRIPT`. */
  #toCall(part: Part<Line>): ScriptCall {
    const keys: string[] = [];
    const changes: (string | number)[] = [];
    const sums: Sums[] = [];
    for (const [shard, lines] of part) {
      keys.push(...(this.#keys.counts[shard] ?? []));
      for (const { id, from, ttl, set, removed } of lines) {
        keys.push(this.#keys.keyOf(id, shard));
        changes.push(from.version, ttl, set.length, ...set, removed.length, ...removed);
      }
      sums.push(sumUp(lines));
    }
    const args = [changes, sums.map(({ added }) => added), sums.map(({ subtracted }) => subtracted)];
    return { keys, args: [...args.map((arg) => JSON.stringify(arg)), ...sizesOf(part)] };
  }
}

/** Divides events into parts of so many tasks each, all events of a task in one part. */
function byTask(
  events: readonly CeleryEvent[],
  tasks: number,
): { readonly parts: readonly CeleryEvent[][]; readonly ids: ReadonlyMap<string, unknown> } {
  const parts: CeleryEvent[][] = [];
  const partOf = new Map<string, CeleryEvent[]>();
  for (const event of events) {
    if (!isTaskEvent(event)) continue;
    let part = partOf.get(event.uuid);
    if (part === undefined) {
      if (partOf.size % tasks === 0) parts.push([]);
      partOf.set(event.uuid, (part = parts.at(-1) as CeleryEvent[]));
    }
    part.push(event);
  }
  return { parts, ids: partOf };
}

function shareAny(some: ReadonlyMap<string, unknown>, others: ReadonlyMap<string, unknown>): boolean {
  for (const id of some.keys()) if (others.has(id)) return true;
  return false;
}

/**
 * Begins anywhere: a process may remember a task that Redis lost, and another process may have counted it anew since. If both began at 1, the first would
 * take the new one for its own.
 */
function nextVersion({ version }: CountedTask): string {
  return String(version === "" ? Math.floor(Math.random() * FIRST_VERSIONS) : Number(version) + 1);
}

/** Follows the label set in the field of a gauge. */
const GAUGE = ".q";

/** What to add to the counts and what to subtract, in the format of `COUNT_SCRIPT`. */
interface Sums {
  readonly added: readonly [fields: readonly string[], numbers: readonly number[]];
  readonly subtracted: readonly (string | number)[];
}

function sumUp(lines: readonly Line[]): Sums {
  const added = new Map<string, number>();
  const subtracted: (string | number)[] = [];
  for (const [index, { difference: changed }] of lines.entries()) {
    for (let at = 0; at < changed.length; at += 2) {
      const field = changed[at] as string;
      const by = changed[at + 1] as number;
      // Whose floor may rise follows from the task, except for gauges, which have none.
      if (by > 0 || field.includes(GAUGE)) added.set(field, (added.get(field) ?? 0) + by);
      else subtracted.push(index + 1, field, -by);
    }
  }
  for (const [field, by] of added) {
    if (by > 0) continue;
    added.delete(field);
    if (by < 0) subtracted.push(0, field, -by);
  }
  return { added: [[...added.keys()], [...added.values()]], subtracted };
}
