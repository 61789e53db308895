/** Whether Redis still has room: every node, on a cluster. */
import { mastersOf, toError, type RedisConnection } from "@celery-metrics-exporter/runtime";

/**
 * The share of `maxmemory` from which on Redis counts as full. It must stay below 1: at `maxmemory` Redis refuses `RPOPLPUSH` too, by which
 * BullMQ's workers take a job, so that queues which filled the memory to the brim could never be drained again.
 */
const FULL_SHARE = 0.9;
/** What was full counts as full until so much is free, so that it does not flap. */
const NO_LONGER_FULL_SHARE = 0.85;
/** How long one refused write counts when Redis does not tell its memory (`INFO` forbidden by an ACL). */
const REFUSAL_MS = 2_000;

export class RedisMemory {
  readonly #redis: RedisConnection;
  readonly #now: () => number;
  #nearlyFull = false;
  #refusedUntil = 0;

  constructor(redis: RedisConnection, now: () => number = () => performance.now()) {
    this.#redis = redis;
    this.#now = now;
  }

  /** What is wrong, for `/readyz`; undefined where there is room. */
  get problem(): string | undefined {
    if (this.#nearlyFull) return `Redis has used ${FULL_SHARE * 100} % of its maxmemory`;
    return this.#now() < this.#refusedUntil ? "Redis is out of memory" : undefined;
  }

  /** A write was refused for lack of memory. */
  refused(): void {
    this.#refusedUntil = this.#now() + REFUSAL_MS;
  }

  async refresh(): Promise<void> {
    const answers = await Promise.all(mastersOf(this.#redis).map(readInfo));
    const share = this.#nearlyFull ? NO_LONGER_FULL_SHARE : FULL_SHARE;
    this.#nearlyFull = answers.some((info) => isNearlyFull(info, share));
  }
}

/** Where an ACL forbids it there is nothing to read, and only refused writes tell. */
async function readInfo(redis: RedisConnection): Promise<string> {
  try {
    return await redis.info("memory");
  } catch (thrown) {
    if (toError(thrown).message.startsWith("NOPERM")) return "";
    throw thrown;
  }
}

/** Reads `INFO memory`; without `maxmemory` Redis is never full. */
export function isNearlyFull(info: string, share = FULL_SHARE): boolean {
  const used = readField(info, "used_memory");
  const limit = readField(info, "maxmemory");
  return limit > 0 && used >= limit * share;
}

function readField(info: string, name: string): number {
  return Number(new RegExp(`^${name}:(\\d+)`, "m").exec(info)?.[1] ?? 0);
}
