/** Whether Redis still has enough memory; on a cluster, every node. */
import { mastersOf, toError, type RedisConnection } from "@celery-metrics-exporter/runtime";

/**
 * The share of `maxmemory` from which Redis counts as full. It must be below 1: at `maxmemory`, Redis also refuses `RPOPLPUSH`, with which
 * BullMQ's workers take jobs, so queues that filled the memory completely could never be drained.
 */
const FULL_SHARE = 0.9;
/** The share below which a full Redis no longer counts as full, so that it does not flap. */
const NO_LONGER_FULL_SHARE = 0.85;
/** How long Redis counts as full after a refused write. Needed if an ACL forbids `INFO`. */
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

  /** What is wrong, for `/readyz`; undefined if there is enough memory. */
  get problem(): string | undefined {
    if (this.#nearlyFull) return `Redis has used ${FULL_SHARE * 100} % of its maxmemory`;
    return this.#now() < this.#refusedUntil ? "Redis is out of memory" : undefined;
  }

  /** Notes that a write was refused for lack of memory. */
  refused(): void {
    this.#refusedUntil = this.#now() + REFUSAL_MS;
  }

  async refresh(): Promise<void> {
    const answers = await Promise.all(mastersOf(this.#redis).map(readInfo));
    const share = this.#nearlyFull ? NO_LONGER_FULL_SHARE : FULL_SHARE;
    this.#nearlyFull = answers.some((info) => isNearlyFull(info, share));
  }
}

/** Empty if an ACL forbids `INFO`. Then only refused writes show that Redis is full. */
async function readInfo(redis: RedisConnection): Promise<string> {
  try {
    return await redis.info("memory");
  } catch (thrown) {
    if (toError(thrown).message.startsWith("NOPERM")) return "";
    throw thrown;
  }
}

/** Reads `INFO memory`. Without `maxmemory`, Redis is never full. */
export function isNearlyFull(info: string, share = FULL_SHARE): boolean {
  const used = readField(info, "used_memory");
  const limit = readField(info, "maxmemory");
  return limit > 0 && used >= limit * share;
}

function readField(info: string, name: string): number {
  return Number(new RegExp(`^${name}:(\\d+)`, "m").exec(info)?.[1] ?? 0);
}
