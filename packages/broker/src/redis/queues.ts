/** The lengths of Celery's queues on Redis (kombu/transport/redis.py): a list per queue and priority step, and one hash of unacknowledged messages. */
import type { ObservedQueue, ObservedUnacked } from "@celery-metrics-exporter/celery";
import type { Redis } from "ioredis";
import type { QueueLengths, RefusedQueue } from "../link/queue-lengths.ts";

/** The workers' transport options. */
export interface RedisQueueOptions {
  /** `global_keyprefix`. */
  readonly keyPrefix: string;
  /** `priority_steps`. The list of step 0 has the queue's own name. */
  readonly prioritySteps: readonly number[];
  /** `sep`, between a queue's name and the step. */
  readonly prioritySeparator: string;
  /** `unacked_key` and `unacked_index_key`. */
  readonly unackedKey: string;
  readonly unackedIndexKey: string;
}

/** A user without the permission, or a key that is not a list. */
const REFUSED = /^(NOPERM|WRONGTYPE)\b/;

/**
 * Reads everything in one pipeline. A missing list has the length 0, because Redis has no empty lists.
 *
 * @throws {Error} if Redis does not answer.
 */
export async function redisQueueLengths(redis: Redis, names: readonly string[], options: RedisQueueOptions): Promise<QueueLengths> {
  const { keyPrefix, prioritySteps, prioritySeparator, unackedKey, unackedIndexKey } = options;
  const steps = [0, ...new Set(prioritySteps.filter((step) => step > 0))];
  const pipeline = redis.pipeline();
  for (const name of names) {
    for (const step of steps) pipeline.llen(`${keyPrefix}${name}${step === 0 ? "" : `${prioritySeparator}${step}`}`);
  }
  pipeline.hlen(keyPrefix + unackedKey).zrange(keyPrefix + unackedIndexKey, "0", "0", "WITHSCORES");
  const replies = (await pipeline.exec()) ?? [];
  const queues: ObservedQueue[] = [];
  const refused: RefusedQueue[] = [];
  names.forEach((name, index) => {
    const lengths = replies.slice(index * steps.length, (index + 1) * steps.length);
    const reason = refusalAmong(lengths);
    if (reason !== undefined) refused.push({ name, reason });
    else queues.push(toQueue(name, new Map(steps.map((step, at) => [step, Number(lengths[at]?.[1] ?? 0)]))));
  });
  const ofUnacked = replies.slice(-2);
  const reason = refusalAmong(ofUnacked);
  if (reason !== undefined) refused.push({ name: unackedKey, reason });
  return { queues, refused, ...(reason === undefined && { unacked: toUnacked(ofUnacked) }) };
}

type Reply = readonly [error: Error | null, result: unknown];

/** @throws {Error} any other error of a command. */
function refusalAmong(replies: readonly Reply[]): string | undefined {
  for (const [error] of replies) {
    if (error === null) continue;
    if (!REFUSED.test(error.message)) throw error;
    return error.message;
  }
  return undefined;
}

function toQueue(name: string, lengths: ReadonlyMap<number, number>): ObservedQueue {
  const messages = [...lengths.values()].reduce((sum, length) => sum + length, 0);
  const usesPriorities = messages > (lengths.get(0) ?? 0);
  return { name, messages, ...(usesPriorities && { byPriority: Object.fromEntries([...lengths].filter(([, length]) => length > 0)) }) };
}

function toUnacked([length, oldest]: readonly Reply[]): ObservedUnacked {
  // RESP3 nests the member and its score, RESP2 does not.
  const [, score] = ((oldest?.[1] ?? []) as readonly unknown[]).flat();
  return { messages: Number(length?.[1]), ...(score !== undefined && { oldestAt: Number(score) }) };
}
