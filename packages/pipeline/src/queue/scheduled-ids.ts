/** The ids of one `schedule` call: the payload of their job in the processing queue, how it gets there, and what it has to wait for. */
import { PermanentError, type RedisConnection } from "@celery-metrics-exporter/runtime";
import { NewerPayloadError } from "../contract/errors.ts";
import type { Queue } from "bullmq";
import type { ProcessingJob, Schedule } from "../contract/exporter.ts";
import { JOB_NAMES } from "./names.ts";
import { withRedis } from "./redis-errors.ts";

const VERSION = 1;

export interface IdsPayload {
  readonly v: typeof VERSION;
  readonly ids: readonly string[];
  /**
   * Jobs of the exporter's other queue that were begun when this was scheduled. They must finish first. Earlier releases do not write this.
   */
  readonly begun?: readonly string[];
}

export function encodeIds(ids: readonly string[], begun: readonly string[] = []): IdsPayload {
  return { v: VERSION, ids, ...(begun.length > 0 && { begun }) };
}

/** Never throws: `decodeIds` reports payloads that cannot be read. */
export function begunBefore(payload: unknown): readonly string[] {
  const { begun = [] } = (typeof payload === "object" && payload !== null ? payload : {}) as Partial<IdsPayload>;
  return Array.isArray(begun) ? begun.filter((id) => typeof id === "string") : [];
}

/**
 * @throws {NewerPayloadError} for a newer version.
 * @throws {PermanentError} for an older version, or anything that `encodeIds` did not write.
 */
export function decodeIds(payload: unknown): readonly string[] {
  const { v, ids } = (typeof payload === "object" && payload !== null ? payload : {}) as Partial<IdsPayload>;
  if (typeof v === "number" && v > VERSION) throw new NewerPayloadError("a list of ids", v);
  if (v !== VERSION) throw new PermanentError(`ids payload of unknown version ${JSON.stringify(v) ?? "(none)"}`);
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === "string")) throw new PermanentError("ids payload is malformed");
  return ids;
}

/** The number of ids in a payload as stored in Redis; 1 if it cannot be read. */
export function idsIn(json: string): number {
  try {
    return decodeIds(JSON.parse(json)).length;
  } catch {
    return 1;
  }
}

// Puts ids on an exporter's processing queue.

/**
 * Creates the `schedule` function of an exporter. It rejects with `UnavailableError` if Redis is unavailable.
 *
 * @param openProcessingQueue called on first use, so that an exporter without a second stage has no such queue.
 * @param batches the batches of the first stage. Jobs wait for those that are begun now.
 */
export function createSchedule(openProcessingQueue: () => Queue, batches: BegunBatches): Schedule {
  return async (ids, { delayMs, putOffBy }) => {
    if (ids.length === 0) return;
    await withRedis("scheduling", async () => {
      const queue = openProcessingQueue();
      const payload = encodeIds(ids, await batches.ids());
      const now = Date.now();
      const since = putOffBy === undefined ? now : Math.min(now, (await createdAt(queue, putOffBy)) ?? now);
      // BullMQ counts the delay from the timestamp.
      await queue.add(JOB_NAMES.ids, payload, { timestamp: since, delay: now - since + delayMs });
    });
  };
}

/** Undefined if the job is gone, because it was taken over and finished. */
async function createdAt(queue: Queue, { id }: ProcessingJob): Promise<number | undefined> {
  const timestamp = await (await queue.getBackend().client).hget(queue.toKey(id), "timestamp");
  return timestamp === null ? undefined : Number(timestamp);
}

// Knows which batches of an exporter were begun but are not done: their process died or is slow, or Redis was unavailable.

/**
 * Identifies jobs by id and not by time, because the clocks of the hosts differ. A finished job is removed at once, and a job that is taken
 * over keeps its id.
 */
export class BegunBatches {
  readonly #redis: RedisConnection;
  readonly #queue: Queue;

  /** @param redis stays open. */
  constructor(redis: RedisConnection, queue: Queue) {
    this.#redis = redis;
    this.#queue = queue;
  }

  /** The ids of the jobs that workers are running, including jobs of processes that died. */
  async ids(): Promise<readonly string[]> {
    return this.#redis.lrange(this.#queue.toKey("active"), 0, -1);
  }

  /** Whether any of these jobs is not done. */
  async areUnfinished(ids: readonly string[]): Promise<boolean> {
    if (ids.length === 0) return false;
    return (await this.#redis.exists(...ids.map((id) => this.#queue.toKey(id)))) > 0;
  }
}
