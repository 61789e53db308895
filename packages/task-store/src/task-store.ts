/**
 * The Store: what is known of each task, kept in Redis until its metrics are reported.
 *
 * A task's entry has one of these states, whatever the order of its events:
 *
 *   open       collects facts; expires 7 days after its last change or its ETA, and is then counted (`sweep`)
 *   pending    contains an unreported final; `apply` has returned its id
 *   claimed    a job has a lease on it, which it renews while it reports the task's metrics; the lease of a dead job expires
 *   tombstone  every final is reported; kept for an hour, so that late and repeated events find their facts marked
 *
 * A final from a further run makes a tombstone pending again.
 *
 * `apply` returns a task if *this batch* contains an unreported final of it. This covers every task with an unreported final that may lack
 * a processing job. A final is in the entry only because some batch added it. Either that batch was completed, and its job is scheduled; or
 * the batch runs again, and finds its final unreported again. Batches with other events of the task need not return it, and so do not
 * schedule it over and over.
 *
 * For an unreported retry, it returns the task's id marked by `retriesOf`. A task is usually retried long before it ends, and a job for its
 * retries must leave its end alone: the end's own grace may not be over. All methods take marked ids.
 */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { type RedisConnection, isCluster } from "@celery-metrics-exporter/runtime";
import { APPLY_SCRIPT } from "./scripts/apply.ts";
import { CLAIM_SCRIPT, RELEASE_SCRIPT, RENEW_SCRIPT } from "./scripts/leases.ts";
import type { FactOptions } from "./facts/fact.ts";
import { FULL_FIELDS, LONG_FIELDS, NOTHING_TO_FORGET } from "./completions/forget.ts";
import { type Part, StoreKeys, inCalls, isOfRetries, retriesOf, taskIdOf } from "./keys.ts";
import { FORGET_SCRIPT, LOOK_SCRIPT, SWEEP_SCRIPT } from "./scripts/open-tasks.ts";
import { SETTLE_SCRIPT } from "./scripts/settle.ts";
import { type ScriptCall, StoreScript } from "./scripts/store-script.ts";
import type { Settlement } from "./completions/summarise.ts";
import { type TaskChange, collectChanges } from "./facts/task-changes.ts";
import { type TaskEntry, parseTaskEntry } from "./facts/task-entry.ts";

export interface TaskStoreOptions extends FactOptions {
  readonly redis: RedisConnection;
  /** The queues' prefix. The Store's keys use it without its braces. */
  readonly queuePrefix: string;
  /** The exporter that this Store belongs to. Each exporter has its own. */
  readonly owner: string;
  /** How long an entry is kept after its last change, or its ETA. */
  readonly taskExpirySeconds: number;
  /** How long a tombstone is kept. */
  readonly sentExpirySeconds: number;
  /** How long a lease lasts unless it is renewed or given up. Until then no other job can claim the task. */
  readonly leaseMs: number;
  /** Called with the number of events that are not kept or not used, so that nothing is reported of them. */
  readonly onDropped?: (reason: DropReason, events: number) => void;
}

/**
 * Why an event of a task is dropped:
 *
 *   full     the task's entry is full
 *   past     the entry has forgotten this worker's (or the clients') events up to that time: the event is nearly always a repeat
 *   unused   the task has thousands of events of which nothing could be reported yet
 */
export const DROP_REASONS = ["full", "past", "unused"] as const;
export type DropReason = (typeof DROP_REASONS)[number];

/** The result of claiming one task. */
export type Claim =
  | { readonly outcome: "reported" }
  | { readonly outcome: "busy"; /** Until the other job's lease ends. */ readonly freeInMs: number }
  | { readonly outcome: "claimed"; readonly entry: TaskEntry; /** Since the first claim. */ readonly waitedMs: number };

export interface OpenTasks {
  /** Tasks whose entries have expired unreported since the last call, by any process. */
  readonly expired: number;
  /** Tasks that are not reported yet. */
  readonly open: number;
}

/** Every method throws `UnavailableError` if Redis is unavailable. Calling it again with the same arguments is always safe. */
export class TaskStore {
  readonly #options: TaskStoreOptions;
  readonly #keys: StoreKeys;
  readonly #apply: StoreScript;
  readonly #claim: StoreScript;
  readonly #settle: StoreScript;
  readonly #release: StoreScript;
  readonly #renew: StoreScript;
  readonly #forget: StoreScript;
  readonly #sweep: StoreScript;
  readonly #look: StoreScript;

  constructor(options: TaskStoreOptions) {
    this.#options = options;
    this.#keys = new StoreKeys(options.queuePrefix, options.owner);
    this.#apply = new StoreScript(options.redis, APPLY_SCRIPT);
    this.#claim = new StoreScript(options.redis, CLAIM_SCRIPT);
    this.#settle = new StoreScript(options.redis, SETTLE_SCRIPT);
    this.#release = new StoreScript(options.redis, RELEASE_SCRIPT);
    this.#renew = new StoreScript(options.redis, RENEW_SCRIPT);
    this.#forget = new StoreScript(options.redis, FORGET_SCRIPT);
    this.#sweep = new StoreScript(options.redis, SWEEP_SCRIPT);
    this.#look = new StoreScript(options.redis, LOOK_SCRIPT);
  }

  /** How long a lease lasts, in milliseconds. */
  get leaseMs(): number {
    return this.#options.leaseMs;
  }

  /**
   * Merges events into their tasks. Returns the ids of the tasks to claim: those for which the batch contains an unreported final, and
   * those with so many attempts that the past ones should be reported before the task ends. Those with only an unreported retry are marked.
   */
  async apply(events: readonly CeleryEvent[]): Promise<string[]> {
    const changes = collectChanges(events, this.#options);
    const parts = this.#inCalls(changes.keys());
    const head = [String(this.#options.taskExpirySeconds), String(LONG_FIELDS), String(FULL_FIELDS)];
    const calls = parts.map((part): ScriptCall => ({
      keys: this.#openAndTasks(part),
      args: [...head, ...writeChanges(part, changes)],
    }));
    const replies = (await this.#apply.run(calls)) as ApplyReply[];
    this.#reportDropped("full", replies, ([full]) => full);
    this.#reportDropped("past", replies, ([, past]) => past);
    return parts.flatMap((part, call) => atIndices(part, (replies[call] ?? NO_REPLY).slice(2)));
  }

  /**
   * Takes a lease for a job on each of these tasks that has something to report and on which no other job has a lease. A task whose retries
   * are all that is asked for has no claim if it is asked for as a whole too.
   */
  async claim(jobId: string, ids: readonly string[]): Promise<Map<string, Claim>> {
    const all = new Set(ids);
    const parts = this.#inCalls([...all].filter((id) => !isOfRetries(id) || !all.has(taskIdOf(id))));
    const args = [jobId, String(this.#options.leaseMs), String(LONG_FIELDS)];
    const replies = (await this.#claim.run(this.#onTasks(parts, args))) as (number | string)[][];
    const claims = new Map<string, Claim>();
    for (const [call, part] of parts.entries()) {
      for (const [index, id] of idsOf(part).entries()) claims.set(id, readClaim(replies[call]?.[index] ?? 0));
    }
    return claims;
  }

  /** Extends the job's leases on these tasks to a whole lease from now. Returns the ids of the tasks on which it no longer has a lease. */
  async renew(jobId: string, ids: readonly string[]): Promise<string[]> {
    const parts = this.#inCalls(new Set(ids));
    const replies = (await this.#renew.run(this.#onTasks(parts, [jobId, String(this.#options.leaseMs)]))) as number[][];
    return parts.flatMap((part, call) => atIndices(part, replies[call] ?? []));
  }

  /** Marks the given facts of each task as reported, removes what can be forgotten, and gives up the job's leases. */
  async settle(jobId: string, sent: ReadonlyMap<string, Settlement>): Promise<void> {
    const changed = await this.#settleAll(jobId, sent);
    const again = changed.map((id) => [id, { ...(sent.get(id) ?? NOTHING), lastOf: undefined }] as const);
    await this.#settleAll(jobId, new Map(again));
    this.#reportDropped("unused", sent.values(), ({ forgotten }) => forgotten.unused);
  }

  /** Returns the ids of tasks that have more facts than the job has read; see `SETTLE_SCRIPT`. */
  async #settleAll(jobId: string, sent: ReadonlyMap<string, Settlement>): Promise<string[]> {
    const head = [jobId, String(this.#options.sentExpirySeconds), String(LONG_FIELDS)];
    const parts = this.#inCalls(sent.keys());
    const replies = (await this.#settle.run(
      parts.map((part) => ({ keys: this.#openAndTasks(part), args: [...head, writeSettlements(part, sent)] })),
    )) as number[][];
    return parts.flatMap((part, call) => atIndices(part, replies[call] ?? []));
  }

  /** Gives up the job's leases on tasks whose metrics cannot be reported yet. */
  async release(jobId: string, ids: readonly string[]): Promise<void> {
    await this.#release.run(this.#onTasks(this.#inCalls(new Set(ids)), [jobId]));
  }

  /** Removes everything known of these tasks, except of those that have a `task-sent`. */
  async forget(ids: readonly string[]): Promise<void> {
    const parts = this.#inCalls(new Set(ids));
    await this.#forget.run(parts.map((part) => ({ keys: this.#openAndTasks(part), args: [] })));
  }

  /** What is known of these tasks, except of those that are not known. */
  async look(ids: readonly string[]): Promise<Map<string, TaskEntry>> {
    const parts = this.#inCalls(new Set(ids));
    const replies = (await this.#look.run(this.#onTasks(parts, []))) as string[][][];
    const entries = new Map<string, TaskEntry>();
    for (const [call, part] of parts.entries()) {
      for (const [index, id] of idsOf(part).entries()) {
        const hash = replies[call]?.[index] ?? [];
        if (hash.length > 0) entries.set(id, parseTaskEntry(hash));
      }
    }
    return entries;
  }

  /** Counts the unreported tasks. Each expired task is counted once, by the first call after it expired. */
  async sweep(): Promise<OpenTasks> {
    const replies = (await this.#sweep.run(this.#keys.open.map((key) => ({ keys: [key], args: [] })))) as [number, number][];
    const sum = (index: 0 | 1): number => replies.reduce((total, reply) => total + reply[index], 0);
    return { expired: Math.max(0, sum(0)), open: Math.max(0, sum(1)) };
  }

  #reportDropped<T>(reason: DropReason, items: Iterable<T>, eventsOf: (item: T) => number): void {
    let events = 0;
    for (const item of items) events += eventsOf(item);
    if (events > 0) this.#options.onDropped?.(reason, events);
  }

  #inCalls(ids: Iterable<string>): readonly Part[] {
    return inCalls([...this.#keys.byShard(ids, (id) => id)], isCluster(this.#options.redis));
  }

  /** The keys for the scripts that count open tasks. */
  #openAndTasks(part: Part): string[] {
    const shard = isCluster(this.#options.redis) ? (part[0]?.[0] ?? 0) : 0;
    return [this.#keys.open[shard] ?? "", ...this.#tasks(part)];
  }

  #onTasks(parts: readonly Part[], args: readonly string[]): ScriptCall[] {
    return parts.map((part) => ({ keys: this.#tasks(part), args }));
  }

  #tasks(part: Part): string[] {
    return part.flatMap(([shard, ids]) => ids.map((id) => this.#keys.keyOf(id, shard)));
  }
}

function idsOf(part: Part): string[] {
  return part.flatMap(([, ids]) => ids);
}

/** The ids with these indices, from 1. A negative index stands for the task's retries alone. */
function atIndices(part: Part, indices: readonly number[]): string[] {
  if (indices.length === 0) return [];
  const ids = idsOf(part);
  return indices.map((index) => (index > 0 ? (ids[index - 1] ?? "") : retriesOf(ids[-index - 1] ?? "")));
}

/** See `apply.ts`. */
type ApplyReply = readonly [full: number, past: number, ...reported: number[]];

const NO_REPLY: ApplyReply = [0, 0];

/** In the format of `APPLY_SCRIPT`: the changes and the ETAs. */
function writeChanges(part: Part, changes: ReadonlyMap<string, TaskChange>): [string, string] {
  const written: (string | number)[] = [];
  const etas: number[] = [];
  for (const [index, id] of idsOf(part).entries()) {
    const { facts, details, texts, etaSeconds } = changes.get(id) ?? NO_CHANGE;
    if (etaSeconds !== 0) etas.push(index + 1, etaSeconds);
    const start = written.push(0);
    for (const { fields } of texts) written.push(...fields);
    for (const [at, fact] of facts.entries()) written.push(fact, details[at] ?? "");
    written[start - 1] = written.length - start;
  }
  return [JSON.stringify(written), JSON.stringify(etas)];
}

const NO_CHANGE: TaskChange = { facts: [], details: [], texts: [], etaSeconds: 0 };

/** In the format of `SETTLE_SCRIPT`. */
function writeSettlements(part: Part, sent: ReadonlyMap<string, Settlement>): string {
  const written: unknown[] = [];
  for (const id of idsOf(part)) {
    const { fields, forgotten, lastOf } = sent.get(id) ?? NOTHING;
    if (lastOf !== undefined) written.push(0, lastOf);
    else {
      const also = isOfRetries(id) ? { retries: true } : { removed: forgotten.fields, till: forgotten.until };
      written.push(fields.length, also, ...fields);
    }
  }
  return JSON.stringify(written);
}

const NOTHING: Settlement = { fields: [], forgotten: NOTHING_TO_FORGET };

/** Reads the reply of `CLAIM_SCRIPT` for one task. */
function readClaim(reply: number | string): Claim {
  if (typeof reply === "number") return reply > 0 ? { outcome: "busy", freeInMs: reply } : { outcome: "reported" };
  const parts = reply.split("\0");
  const waitedMs = Number(parts.pop());
  return { outcome: "claimed", entry: parseTaskEntry(parts), waitedMs };
}
