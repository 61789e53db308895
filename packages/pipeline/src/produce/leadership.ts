/**
 * The leadership among receivers, in Redis. Of several receivers that hear the same messages, only its holder enqueues them. Roles that hear
 * nothing, such as monitors, have one too (leader.ts).
 */
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { randomUUID } from "node:crypto";
import { type LeadingRole, receiversKey } from "../queue/names.ts";
import { withRedis } from "../queue/redis-errors.ts";

export interface LeadershipOptions {
  /** A `producer` connection: a command fails at once if Redis is unavailable. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  /** Names what the receivers hear. Receivers that hear something else have their own leader. */
  readonly stream: string;
  /** Whose leadership it is. Default: the receivers'. */
  readonly role?: LeadingRole;
  /** How long the holder may be silent before another receiver takes over. Default 5 s. */
  readonly ttlMs?: number;
}

/** What a receiver states when it claims the leadership. Instants are `performance.now()`, in milliseconds. */
export interface LeadershipClaim {
  /** Since when it has received everything that was published. */
  readonly completeSince: number;
  /** Stated by the holder: everything published before this instant is in the queues. */
  readonly safeUntil?: number;
}

/** Instants are `performance.now()`, in milliseconds. */
export interface LeadershipAnswer {
  readonly held: boolean;
  /** When the holder must assume that it has lost the leadership, if Redis does not answer any more. */
  readonly heldUntil: number;
  /** Everything published before this instant is in the queues; undefined if no holder has stated it yet. */
  readonly safeUntil: number | undefined;
  /**
   * Set if this call took the leadership over from another holder, or from this process's predecessor. `covered` is whether this receiver has
   * received everything published since that holder's `safeUntil`. If neither it nor another receiver has, events may have been missed.
   */
  readonly takeover?: { readonly covered: boolean };
}

const TTL_MS = 5_000;
/** Expiry of the record. After a day, it is useless to know what the last holder had enqueued. */
const RECORD_EXPIRY_MS = 86_400_000;

/**
 * The clocks of different hosts are never compared. Receivers exchange instants in Redis' time. Each maps them to its own
 * `performance.now()` through the time of its request and of the reply, and uses the one of the two that lets it keep more events.
 */
export class Leadership {
  readonly #redis: RedisConnection;
  readonly #key: string;
  readonly #ttlMs: number;
  readonly #id = randomUUID();
  /** The lower bound of Redis' time minus ours; known from the first reply on. */
  #offsetMs: number | undefined;

  constructor({ redis, prefix, stream, role, ttlMs = TTL_MS }: LeadershipOptions) {
    this.#redis = redis;
    this.#key = receiversKey(prefix, stream, role);
    this.#ttlMs = ttlMs;
  }

  /**
   * Renews the leadership, takes it if it is free, or finds that another receiver has it. Free leadership is left to a receiver that has received
   * everything published since `safeUntil`, if such a receiver has asked within its duration.
   *
   * @throws {UnavailableError} if Redis is unavailable. The leadership may have been renewed or taken nevertheless.
   */
  async claim({ completeSince, safeUntil }: LeadershipClaim): Promise<LeadershipAnswer> {
    const askedAt = performance.now();
    const completeForMs = Math.max(0, Math.floor(askedAt - completeSince) - 1);
    const args = [this.#id, this.#ttlMs, RECORD_EXPIRY_MS, completeForMs, this.#inRedisTime(safeUntil)];
    const reply = await withRedis("renewing the leadership", () => this.#redis.eval(CLAIM_LEADERSHIP, 1, this.#key, ...args));
    const [now = 0, held, tookOver, covered, safeInRedis = -1] = reply as number[];
    this.#offsetMs = now - performance.now();
    return {
      held: held === 1,
      heldUntil: askedAt + this.#ttlMs,
      // `now` lacks the fraction of a millisecond, so Redis' true time is up to 1 ms later.
      safeUntil: safeInRedis < 0 ? undefined : askedAt + Math.min(0, safeInRedis - now) - 1,
      ...(tookOver === 1 ? { takeover: { covered: covered === 1 } } : {}),
    };
  }

  /**
   * Gives the leadership up, if this receiver holds it. Another receiver can take it at once.
   *
   * @param safeUntil as in a claim; without it, the last stated value stays.
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async release(safeUntil?: number): Promise<void> {
    const args = [this.#id, this.#inRedisTime(safeUntil), RECORD_EXPIRY_MS];
    await withRedis("giving up the leadership", () => this.#redis.eval(RELEASE_LEADERSHIP, 1, this.#key, ...args));
  }

  #inRedisTime(moment: number | undefined): string {
    return moment === undefined || this.#offsetMs === undefined ? "" : String(Math.floor(moment + this.#offsetMs));
  }
}

// The scripts behind the receivers' leadership. They use one key, and Redis' own clock in milliseconds.
//
// They must run while Redis is full: the record does not grow, and what its holder has may still be read. A full Redis refuses the first write of a script
// if it may need memory, but none after another write (src/script.c). So an expiry is set first.

/**
 * KEYS: the leadership. ARGV: the receiver; the time to live; the expiry of the record; for how long the receiver has received everything;
 * `safeUntil` or an empty text. Replies with the current time; whether the receiver holds the leadership; whether it took it over; whether it
 * has received everything since `safeUntil`; and `safeUntil` (or -1).
 *
 * - Expired leadership that no other receiver took still belongs to its holder.
 * - A receiver that has received everything only since this millisecond covers nothing. Otherwise, of roles that hear nothing, one that asks in the
 *   millisecond of the first holder would be waited for.
 * - An end that is further in the future than the time to live was stored before Redis' clock was set back. It counts as past.
 */
const CLAIM_LEADERSHIP = `
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local id, ttl, expiry, completeFor = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local record = redis.call('HMGET', KEYS[1], 'holder', 'heldUntil', 'safeUntil', 'coveredUntil')
local holder, safeUntil = record[1], tonumber(record[3] or nil)
local heldUntil, coveredUntil = tonumber(record[2] or 0), tonumber(record[4] or 0)

local function ahead(moment) return moment > now and moment <= now + ttl end
local function store(...)
  redis.call('PEXPIRE', KEYS[1], expiry)
  redis.call('HSET', KEYS[1], ...)
  redis.call('PEXPIRE', KEYS[1], expiry)
end
local function text(moment) return string.format('%.0f', moment) end
local function answer(held, tookOver, covers)
  return {now, held and 1 or 0, tookOver and 1 or 0, covers and 1 or 0, safeUntil or -1}
end

local covers = not safeUntil or now - completeFor < safeUntil
if holder == id then
  safeUntil = tonumber(ARGV[5]) or safeUntil or now - completeFor
  store('heldUntil', text(now + ttl), 'safeUntil', text(safeUntil))
  return answer(true, false, covers)
end
local free = not holder or holder == '' or not ahead(heldUntil)
if free and (covers or not ahead(coveredUntil)) then
  -- The first receiver of all: no receiver can have received what was published before.
  store('holder', id, 'heldUntil', text(now + ttl), 'safeUntil', text(safeUntil or now - completeFor))
  return answer(true, safeUntil, covers)
end
if covers then store('coveredUntil', text(now + ttl)) end
return answer(false, false, covers)
`;

/** KEYS: the leadership. ARGV: the receiver; `safeUntil` or an empty text, which keeps the last value; the expiry of the record. */
const RELEASE_LEADERSHIP = `
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('HSET', KEYS[1], 'holder', '')
if tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], 'safeUntil', ARGV[2]) end
return 1
`;
