/** The lease in Redis by which one of several receivers that hear the same messages is the one that enqueues them. */
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { randomUUID } from "node:crypto";
import { receiversKey } from "./queue-names.ts";
import { CLAIM_LEASE, RELEASE_LEASE } from "./receiver-lease-script.ts";
import { withRedis } from "./redis-errors.ts";

export interface ReceiverLeaseOptions {
  /** A `producer` connection: a command fails at once when Redis is away. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  /** Names what the receivers hear: those that hear something else have a lease of their own. */
  readonly stream: string;
  /** How long the holder may be silent before another takes over. Default 5 s. */
  readonly ttlMs?: number;
}

/** What a receiver tells of itself. Moments are `performance.now()`, in milliseconds. */
export interface Claim {
  /** Since when it has everything that was published. */
  readonly completeSince: number;
  /** Told by the holder: everything published before this moment is in the queues. */
  readonly safeUntil?: number;
}

/** Moments are `performance.now()`, in milliseconds. */
export interface LeaseAnswer {
  readonly held: boolean;
  /** When a holder that hears nothing more from Redis must take it to be another's. */
  readonly heldUntil: number;
  /** Everything published before this moment is in the queues; undefined where nobody has told yet. */
  readonly safeUntil: number | undefined;
  /**
   * Present when this call took the lease over from another holder, or from this process' predecessor: whether the receiver has everything
   * published since that one's `safeUntil`. If not, and nobody else had it, events may have been missed.
   */
  readonly takeover?: { readonly covered: boolean };
}

const TTL_MS = 5_000;
/** What the last holder had enqueued is of no use to anyone after a day. */
const RECORD_EXPIRY_MS = 86_400_000;

/**
 * No clock of one host is compared with that of another. What passes between receivers is in Redis' time; each maps it to its own
 * `performance.now()` by when it asked and when the answer came, taking whichever of the two lets it keep more.
 */
export class ReceiverLease {
  readonly #redis: RedisConnection;
  readonly #key: string;
  readonly #ttlMs: number;
  readonly #id = randomUUID();
  /** Redis' time less ours, at the least; known from the first answer on. */
  #offsetMs: number | undefined;

  constructor({ redis, prefix, stream, ttlMs = TTL_MS }: ReceiverLeaseOptions) {
    this.#redis = redis;
    this.#key = receiversKey(prefix, stream);
    this.#ttlMs = ttlMs;
  }

  /**
   * Renews the lease, takes it if it is free, or learns that another has it. A free one is left to a receiver that has everything published
   * since `safeUntil`, if such a one has asked within the time a lease lasts.
   *
   * @throws {UnavailableError} when Redis does not serve: it may have been renewed or taken all the same.
   */
  async claim({ completeSince, safeUntil }: Claim): Promise<LeaseAnswer> {
    const askedAt = performance.now();
    const completeForMs = Math.max(0, Math.floor(askedAt - completeSince) - 1);
    const args = [this.#id, this.#ttlMs, RECORD_EXPIRY_MS, completeForMs, this.#inRedisTime(safeUntil)];
    const reply = await withRedis("renewing the receivers' lease", () => this.#redis.eval(CLAIM_LEASE, 1, this.#key, ...args));
    const [now = 0, held, tookOver, covered, safeInRedis = -1] = reply as number[];
    this.#offsetMs = now - performance.now();
    return {
      held: held === 1,
      heldUntil: askedAt + this.#ttlMs,
      // Redis told its time without the fraction of a millisecond: up to one has passed that is not in `now`.
      safeUntil: safeInRedis < 0 ? undefined : askedAt + Math.min(0, safeInRedis - now) - 1,
      ...(tookOver === 1 ? { takeover: { covered: covered === 1 } } : {}),
    };
  }

  /**
   * Gives the lease up, if it is ours: another may have it at once.
   *
   * @param safeUntil as in a claim; without it what was claimed last stands.
   * @throws {UnavailableError} when Redis does not serve.
   */
  async release(safeUntil?: number): Promise<void> {
    const args = [this.#id, this.#inRedisTime(safeUntil)];
    await withRedis("giving up the receivers' lease", () => this.#redis.eval(RELEASE_LEASE, 1, this.#key, ...args));
  }

  #inRedisTime(moment: number | undefined): string {
    return moment === undefined || this.#offsetMs === undefined ? "" : String(Math.floor(moment + this.#offsetMs));
  }
}
