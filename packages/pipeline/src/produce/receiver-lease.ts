/** The lease in Redis by which one of several receivers that hear the same messages is the one that enqueues them. */
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { randomUUID } from "node:crypto";
import { receiversKey } from "../queue/names.ts";
import { withRedis } from "../queue/redis-errors.ts";

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

// The scripts behind the receivers' lease. One key, Redis' own clock, milliseconds.

/**
 * KEYS: the lease. ARGV: receiver, time to live, expiry of the record, for how long the receiver has had everything, `safeUntil` or nothing.
 * Answers now, whether the receiver holds the lease, whether it took it over, whether it has everything since `safeUntil`, and that (or -1).
 *
 * - An expired lease that nobody took is still its holder's.
 * - Ends in the future by more than the time to live come from before Redis' clock was set back; they count as past.
 */
const CLAIM_LEASE = `
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local id, ttl, expiry, completeFor = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local record = redis.call('HMGET', KEYS[1], 'holder', 'heldUntil', 'safeUntil', 'coveredUntil')
local holder, safeUntil = record[1], tonumber(record[3] or nil)
local heldUntil, coveredUntil = tonumber(record[2] or 0), tonumber(record[4] or 0)

local function ahead(moment) return moment > now and moment <= now + ttl end
local function store(...)
  redis.call('HSET', KEYS[1], ...)
  redis.call('PEXPIRE', KEYS[1], expiry)
end
local function text(moment) return string.format('%.0f', moment) end
local function answer(held, tookOver, covers)
  return {now, held and 1 or 0, tookOver and 1 or 0, covers and 1 or 0, safeUntil or -1}
end

local covers = not safeUntil or now - completeFor <= safeUntil
if holder == id then
  safeUntil = tonumber(ARGV[5]) or safeUntil or now - completeFor
  store('heldUntil', text(now + ttl), 'safeUntil', text(safeUntil))
  return answer(true, false, covers)
end
local free = not holder or holder == '' or not ahead(heldUntil)
if free and (covers or not ahead(coveredUntil)) then
  -- Of what was published before the first receiver came nobody can have anything.
  store('holder', id, 'heldUntil', text(now + ttl), 'safeUntil', text(safeUntil or now - completeFor))
  return answer(true, safeUntil, covers)
end
if covers then store('coveredUntil', text(now + ttl)) end
return answer(false, false, covers)
`;

/** KEYS: the lease. ARGV: receiver, `safeUntil` or nothing: then what was told last stays. */
const RELEASE_LEASE = `
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'holder', '')
if tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], 'safeUntil', ARGV[2]) end
return 1
`;
