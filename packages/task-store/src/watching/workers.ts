/**
 * What is known of each worker, in Redis, from its own events.
 *
 * A worker's events are ordered by its own clock. Whether it is alive depends on when a receiver last heard it, because workers' clocks differ. An offline
 * event of a worker that is not known creates nothing, and a field that an event lacks changes nothing: a heartbeat that answers a broadcast has no `active`.
 *
 * Silence means that a worker is gone only while receivers listened. Otherwise it is not known.
 */
import type { CeleryEvent, Listened, Observation, WorkerEvent } from "@celery-metrics-exporter/celery";
import { type RedisConnection, onRedis } from "@celery-metrics-exporter/runtime";
import { StoreScript } from "../scripts/store-script.ts";

export interface WorkerState {
  /** The node's name, `name@host`. */
  readonly worker: string;
  /** Whether its latest event is not `worker-offline`. */
  readonly isOnline: boolean;
  /** When a receiver last heard it. Seconds since the epoch. */
  readonly heardAt: number;
  /** For how long the receivers of every source would have heard it since then. 0 if that is not known. */
  readonly silentSeconds: number;
  /** From its latest heartbeat, by its own clock, but at most a minute after it was heard. Seconds since the epoch. */
  readonly heartbeatAt: number | undefined;
  readonly active: number | undefined;
  readonly processed: number | undefined;
  /** Celery's version. */
  readonly version: string | undefined;
}

export interface KnownWorkers {
  readonly states: readonly WorkerState[];
  /** Until when the receivers of every source listened, as far as that is known. Seconds since the epoch. */
  readonly listenedUntil: number | undefined;
}

export interface WorkersOptions {
  readonly redis: RedisConnection;
  /** The key of a hash. */
  readonly key: string;
  /** The beginning of the key of the hash of what the receivers of each source reported. */
  readonly listenedKey: string;
  /** How long a worker that is silent counts as up, in seconds. */
  readonly timeoutSeconds: number;
  /** How long a worker is remembered after it was last heard, in seconds. */
  readonly purgeSeconds: number;
}

/** How late we usually know at most that a receiver listened: it reports that every five seconds. */
const REPORTED_LATE_SECONDS = 15;
/** A source from which nothing came for so long has no say, because its receivers may have been removed. Its workers look silent from then on. */
const SOURCE_SECONDS = 600;
/** A source from which nothing came for so long is forgotten. */
const SOURCE_EXPIRY_SECONDS = 86_400;

/**
 * Whether it is online, and a receiver has heard it within the timeout. Undefined if it was not heard and no receiver has listened long enough.
 *
 * @param timeoutSeconds how long a worker that is silent counts as up.
 * @param now seconds since the epoch.
 */
export function isUp({ isOnline, heardAt, silentSeconds }: WorkerState, timeoutSeconds: number, now: number): boolean | undefined {
  if (!isOnline || silentSeconds > timeoutSeconds) return false;
  return now - heardAt <= timeoutSeconds + REPORTED_LATE_SECONDS ? true : undefined;
}

/**
 * How many workers are up; undefined if that is not known, because one may be up or not, or because receivers of a source did not listen within the timeout.
 *
 * @param timeoutSeconds how long a worker that is silent counts as up.
 * @param now seconds since the epoch.
 */
export function workersUp({ states, listenedUntil }: KnownWorkers, timeoutSeconds: number, now: number): number | undefined {
  const up = states.map((state) => isUp(state, timeoutSeconds, now));
  const isKnown = listenedUntil !== undefined && now - listenedUntil <= timeoutSeconds + REPORTED_LATE_SECONDS && !up.includes(undefined);
  return isKnown ? up.filter(Boolean).length : undefined;
}

/** Bounds the memory, because clients may invent workers. */
const MOST_WORKERS = 5_000;
/** How long a worker is remembered at most while there are so many, because new ones are refused meanwhile. */
const PURGE_SECONDS_WHEN_FULL = 300;

/** How far a worker's clock may be ahead. Otherwise nothing that it says once its clock is right would count for as long as it was ahead. */
const MOST_AHEAD_SECONDS = 60;

const RANKS: Readonly<Record<WorkerEvent["type"], number>> = { "worker-online": 0, "worker-heartbeat": 1, "worker-offline": 2 };

/** Nothing is later than now, by the clock of Redis: processes that store events and reports may have different clocks. */
const NOW = `
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
`;

/**
 *   KEYS  the workers
 *   ARGV  the largest number of workers; how far a worker's clock may be ahead; then for each event: worker, JSON of {t: timestamp, k: rank of its type,
 *         s: when it was heard, a: active, p: processed, v: version}. Without s, it was heard now.
 *
 * Keeps {t, k} of the latest event, s of the latest time it was heard, {h, a, p} of the latest heartbeat that has it, and v of the latest event with one.
 */
const MERGE_SCRIPT = `${NOW}
for i = 3, #ARGV, 2 do
  local event = cjson.decode(ARGV[i + 1])
  event.s, event.t = math.min(event.s or now, now), math.min(event.t, now + ARGV[2])
  local stored = redis.call('HGET', KEYS[1], ARGV[i])
  local isWelcome = stored or (event.k < 2 and redis.call('HLEN', KEYS[1]) < tonumber(ARGV[1]))
  if isWelcome then
    local state = stored and cjson.decode(stored) or {t = -1, k = 0, s = 0, h = -1}
    if event.t > state.t or (event.t == state.t and event.k > state.k) then
      state.t, state.k = event.t, event.k
      if event.v then state.v = event.v end
    end
    if event.k < 2 and event.s > state.s then state.s = event.s end
    if event.a and event.t > state.h then state.h, state.a, state.p = event.t, event.a, event.p end
    redis.call('HSET', KEYS[1], ARGV[i], cjson.encode(state))
  end
end
`;

/** What the receivers of a source have reported. Seconds since the epoch. */
interface Listening {
  /** Until when they listened at all. */
  readonly till: number;
  /** Until when one had listened for the timeout or longer. */
  readonly enough?: number;
}

/**
 *   KEYS  the hash of what the receivers of each source reported
 *   ARGV  expiry in seconds; the timeout; after how many seconds a source is forgotten; source, since when and until when, for each report
 *
 * Each value is the greatest of those that the reports give, so that neither order nor repetition matters, and no later report takes one back. A source whose
 * time is in the future is forgotten: it was stored before Redis' clock was set back, and a worker that came since would look silent.
 */
const LISTENED_SCRIPT = `${NOW}
local function forget(isGone)
  local all = redis.call('HGETALL', KEYS[1])
  for i = 2, #all, 2 do
    if isGone(cjson.decode(all[i]).till) then redis.call('HDEL', KEYS[1], all[i - 1]) end
  end
end
local newest = 0
forget(function(till)
  if till <= now then newest = math.max(newest, till) end
  return till > now
end)
for i = 4, #ARGV, 3 do
  local ahead = math.max(ARGV[i + 2] - now, 0)
  local since, till = ARGV[i + 1] - ahead, ARGV[i + 2] - ahead
  if since < till then
    local known = cjson.decode(redis.call('HGET', KEYS[1], ARGV[i]) or '{"till": 0}')
    known.till = math.max(known.till, till)
    if till - since >= tonumber(ARGV[2]) then known.enough = math.max(known.enough or 0, till) end
    redis.call('HSET', KEYS[1], ARGV[i], cjson.encode(known))
    newest = math.max(newest, known.till)
  end
end
forget(function(till) return till < newest - ARGV[3] end)
redis.call('EXPIRE', KEYS[1], ARGV[1])
`;

export class Workers {
  readonly #options: WorkersOptions;
  readonly #merge: StoreScript;
  readonly #listened: StoreScript;

  constructor(options: WorkersOptions) {
    this.#options = options;
    this.#merge = new StoreScript(options.redis, MERGE_SCRIPT, "the state of workers");
    this.#listened = new StoreScript(options.redis, LISTENED_SCRIPT, "the state of workers");
  }

  /**
   * @param receivedAt when a receiver got the events, in seconds since the epoch; undefined if an older release did not note it. Then now counts.
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async merge(events: readonly CeleryEvent[], receivedAt?: number): Promise<void> {
    const args = events.filter(isWorkerEvent).flatMap((event) => {
      const { active: a, processed: p, sw_ver: v } = event;
      const t = receivedAt === undefined ? event.timestamp : Math.min(event.timestamp, receivedAt + MOST_AHEAD_SECONDS);
      return [event.hostname, JSON.stringify({ t, k: RANKS[event.type], s: receivedAt, a, p, v })];
    });
    const limits = [MOST_WORKERS, MOST_AHEAD_SECONDS].map(String);
    if (args.length > 0) await this.#merge.run([{ keys: [this.#options.key], args: [...limits, ...args] }]);
  }

  /**
   * Stores what receivers report. A time that ends in the future is moved so that it ends now: it is as long as the receiver says.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async listened(observations: readonly Observation[]): Promise<void> {
    const { timeoutSeconds, purgeSeconds } = this.#options;
    const args = observations
      .filter((each): each is Listened => each.type === "listened")
      .flatMap(({ source, since, timestamp }) => [source, since, timestamp]);
    const limits = [Math.ceil(purgeSeconds), timeoutSeconds, SOURCE_EXPIRY_SECONDS];
    if (args.length > 0) await this.#listened.run([{ keys: [this.#listenedKey], args: [...limits, ...args].map(String) }]);
  }

  /**
   * The workers in the order of their names, without those that have not been heard for `purgeSeconds`, or for 5 minutes if there are 5,000.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async all(now = Date.now() / 1_000): Promise<KnownWorkers> {
    const { redis, key, purgeSeconds } = this.#options;
    const [stored, listened] = await onRedis("the state of workers", () =>
      Promise.all([redis.hgetall(key), redis.hgetall(this.#listenedKey)]),
    );
    const { listenedUntil, enoughUntil = 0 } = leastOf(Object.values(listened).map((text) => JSON.parse(text) as Listening));
    const workers: WorkerState[] = [];
    const gone: string[] = [];
    const isFull = Object.keys(stored).length >= MOST_WORKERS;
    const longestSilence = isFull ? Math.min(purgeSeconds, PURGE_SECONDS_WHEN_FULL) : purgeSeconds;
    for (const [worker, text] of Object.entries(stored)) {
      const state = JSON.parse(text) as { k: number; s: number; h: number; a?: number; p?: number; v?: string };
      if (now - state.s > longestSilence) gone.push(worker);
      else
        workers.push({
          worker,
          isOnline: state.k < RANKS["worker-offline"],
          heardAt: state.s,
          silentSeconds: Math.max(0, enoughUntil - state.s),
          heartbeatAt: state.h < 0 ? undefined : state.h,
          active: state.a,
          processed: state.p,
          version: state.v,
        });
    }
    if (gone.length > 0) await onRedis("the state of workers", () => redis.hdel(key, ...gone));
    return { states: workers.toSorted((a, b) => (a.worker < b.worker ? -1 : 1)), listenedUntil };
  }

  /** Whether a time is long enough depends on the timeout, so what was stored with another one does not count. */
  get #listenedKey(): string {
    return `${this.#options.listenedKey}:${this.#options.timeoutSeconds}`;
  }
}

/** It is known of no worker which source it belongs to, so the source that was listened to least counts. */
function leastOf(known: readonly Listening[]): { readonly listenedUntil: number | undefined; readonly enoughUntil: number | undefined } {
  const newest = Math.max(...known.map(({ till }) => till));
  const sources = known.filter(({ till }) => till > newest - SOURCE_SECONDS);
  if (sources.length === 0) return { listenedUntil: undefined, enoughUntil: undefined };
  return { listenedUntil: Math.min(...sources.map(({ till }) => till)), enoughUntil: Math.min(...sources.map(({ enough = 0 }) => enough)) };
}

function isWorkerEvent(event: CeleryEvent): event is WorkerEvent {
  return event.type in RANKS;
}
