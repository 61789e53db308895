/** Processes that count on a private Redis, and what the counts must be. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { contribute } from "../../src/counts/contribution.ts";
import { CountTable } from "../../src/counts/count-table.ts";
import { UNKNOWN_TASK, merge } from "../../src/counts/counted-task.ts";
import { tally } from "../../src/counts/tally.ts";
import { type Look, type LookedAt, TaskCounts, type TaskCountsOptions } from "../../src/counts/task-counts.ts";
import { collectChanges } from "../../src/facts/task-changes.ts";
import { CountKeys } from "../../src/keys.ts";

export const TASK_EXPIRY_SECONDS = 604_800;
export const ENDED_EXPIRY_SECONDS = 3_600;
const PREFIX = "{cme}";
const OWNER = "test";
const FACTS = { keepWorker: false, keepException: false, everyEvent: true } as const;

/**
 * Counts each event under `<name>@<queue>.<kind>`, adds runtimes and waits up in microseconds, and has a gauge of waiting messages. What lacks its name or
 * queue is open until the final look.
 */
async function lookAt(tasks: readonly LookedAt[]): Promise<Look[]> {
  return tasks.map((task) => {
    const { events, waiting, ended } = tally(task);
    const contribution: (string | number)[] = [];
    const add = (field: string, by: number): void => contribute(contribution, field, by);
    let isIncomplete = false;
    for (const { name, queue, kind, runtime, wait } of events) {
      if ((name === undefined || queue === undefined) && !task.isFinalLook) {
        isIncomplete = true;
        continue;
      }
      const labels = labelsOf(name, queue);
      add(`${labels}.${kind}`, 1);
      add(`${labels}.T`, Math.round((runtime ?? 0) * 1e6));
      add(`${labels}.W`, Math.round((wait ?? 0) * 1e6));
    }
    for (const { name, queue, since } of waiting) add(`${labelsOf(name, queue)}.q${Math.floor(since / 60).toString(36)}`, 1);
    return { contribution, isIncomplete, ended };
  });
}

function labelsOf(name = "unknown", queue = "unknown"): string {
  return `${name.replaceAll(".", "/")}@${queue}`;
}

/** The sum of what all tasks contribute, from all their events at once. */
export async function expectedOf(events: readonly CeleryEvent[], isFinalLook = false): Promise<Record<string, number>> {
  const tasks = [...collectChanges(events, FACTS).values()].map((change) => ({ ...merge(UNKNOWN_TASK, change).task, isFinalLook }));
  const sum = new Map<string, number>();
  for (const { contribution } of await lookAt(tasks)) {
    for (let at = 0; at < contribution.length; at += 2) {
      const field = contribution[at] as string;
      sum.set(field, (sum.get(field) ?? 0) + (contribution[at + 1] as number));
    }
  }
  return sorted(sum);
}

/** What somebody reads who has not read before, by field. */
export async function totalsOf(counts: TaskCounts): Promise<Map<string, number>> {
  const { codes, bySet, gauges } = new CountTable().read(await counts.read(), () => true);
  const fields = new Map(gauges.map(({ set, code, count }) => [`${set}.${code}`, count]));
  for (const [set, own] of bySet) {
    for (const [code, number] of codes) if (own.get(number) > 0) fields.set(`${set}.${code}`, own.get(number));
  }
  return fields;
}

/** Without those that are 0. */
export function sorted(counts: ReadonlyMap<string, number>): Record<string, number> {
  return Object.fromEntries([...counts].filter(([, count]) => count !== 0).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

export class CountsHarness {
  readonly server: RedisServer;
  readonly redis: Redis;
  readonly #connections: Redis[] = [];
  readonly #keys = new CountKeys(PREFIX, OWNER, false);

  private constructor(server: RedisServer) {
    this.server = server;
    this.redis = this.#connect();
  }

  static async start(): Promise<CountsHarness> {
    return new CountsHarness(await startRedis());
  }

  /** Another process, with its own memory. */
  process(options: Partial<TaskCountsOptions> = {}): TaskCounts {
    return createCounts(this.redis, options);
  }

  /** Another process, with its own connection. */
  connected(): TaskCounts {
    return createCounts(this.#connect());
  }

  /** The counts themselves, without floors. */
  async counts(): Promise<Record<string, number>> {
    const sum = new Map<string, number>();
    for (const [key = ""] of this.#keys.counts) {
      for (const [field, count] of Object.entries(await this.redis.hgetall(key))) sum.set(field, (sum.get(field) ?? 0) + Number(count));
    }
    return sorted(sum);
  }

  async floors(): Promise<Record<string, string>> {
    return Object.assign({}, ...(await Promise.all(this.#keys.counts.map(([, floors = ""]) => this.redis.hgetall(floors)))));
  }

  hash(id: string): Promise<Record<string, string>> {
    return this.redis.hgetall(this.#keys.keyOf(id));
  }

  ttlSeconds(id: string): Promise<number> {
    return this.redis.ttl(this.#keys.keyOf(id));
  }

  async clear(): Promise<void> {
    await this.redis.flushall();
  }

  async close(): Promise<void> {
    for (const connection of this.#connections) connection.disconnect();
    await this.server.stop();
  }

  #connect(): Redis {
    const connection = new Redis(this.server.url, { maxRetriesPerRequest: 1 });
    connection.on("error", () => {});
    this.#connections.push(connection);
    return connection;
  }
}

export function createCounts(redis: RedisConnection, options: Partial<TaskCountsOptions> = {}): TaskCounts {
  return new TaskCounts({
    redis,
    queuePrefix: PREFIX,
    owner: OWNER,
    taskExpirySeconds: TASK_EXPIRY_SECONDS,
    endedExpirySeconds: ENDED_EXPIRY_SECONDS,
    ...FACTS,
    lookAt,
    ...options,
  });
}
