/**
 * What is known of each worker, in Redis, from its own events.
 *
 * A worker's events are ordered by its own clock. Whether it is alive depends on when a receiver last heard it, because workers' clocks differ. An offline
 * event of a worker that is not known creates nothing, and a field that an event lacks changes nothing: a heartbeat that answers a broadcast has no `active`.
 */
import type { CeleryEvent, WorkerEvent } from "@celery-metrics-exporter/celery";
import { type RedisConnection, onRedis } from "@celery-metrics-exporter/runtime";

export interface WorkerState {
  /** The node's name, `name@host`. */
  readonly worker: string;
  /** Whether its latest event is not `worker-offline`. */
  readonly isOnline: boolean;
  /** When a receiver last heard it. Seconds since the epoch. */
  readonly heardAt: number;
  /** From its latest heartbeat, by its own clock, but at most a minute after it was heard. Seconds since the epoch. */
  readonly heartbeatAt: number | undefined;
  readonly active: number | undefined;
  readonly processed: number | undefined;
  /** Celery's version. */
  readonly version: string | undefined;
}

export interface WorkersOptions {
  readonly redis: RedisConnection;
  /** The key of a hash. */
  readonly key: string;
  /** How long a worker is remembered after it was last heard, in seconds. */
  readonly purgeSeconds: number;
}

/** Whether it is online, and a receiver has heard it within the timeout. Both in seconds; `now` is since the epoch. */
export function isUp({ isOnline, heardAt }: WorkerState, timeoutSeconds: number, now: number): boolean {
  return isOnline && now - heardAt <= timeoutSeconds;
}

/** Bounds the memory, because clients may invent workers. */
const MOST_WORKERS = 5_000;
/** How long a worker is remembered at most while there are so many, because new ones are refused meanwhile. */
const PURGE_SECONDS_WHEN_FULL = 300;

/** How far a worker's clock may be ahead. Otherwise nothing that it says once its clock is right would count for as long as it was ahead. */
const MOST_AHEAD_SECONDS = 60;

const RANKS: Readonly<Record<WorkerEvent["type"], number>> = { "worker-online": 0, "worker-heartbeat": 1, "worker-offline": 2 };

/**
 *   KEYS  the workers
 *   ARGV  the largest number of workers; then for each event: worker, JSON of {t: timestamp, k: rank of its type, s: when it was heard or null, a: active,
 *         p: processed, v: version}
 *
 * Keeps {t, k} of the latest event, s of the latest time it was heard, {h, a, p} of the latest heartbeat that tells it, and v of the latest event with one.
 */
const MERGE_SCRIPT = `
for i = 2, #ARGV, 2 do
  local event = cjson.decode(ARGV[i + 1])
  local stored = redis.call('HGET', KEYS[1], ARGV[i])
  local isWelcome = stored or (event.k < 2 and redis.call('HLEN', KEYS[1]) < tonumber(ARGV[1]))
  if isWelcome then
    local state = stored and cjson.decode(stored) or {t = -1, k = 0, s = 0, h = -1}
    if event.t > state.t or (event.t == state.t and event.k > state.k) then
      state.t, state.k = event.t, event.k
      if event.v then state.v = event.v end
    end
    if event.k < 2 and event.s and event.s > state.s then state.s = event.s end
    if event.a and event.t > state.h then state.h, state.a, state.p = event.t, event.a, event.p end
    redis.call('HSET', KEYS[1], ARGV[i], cjson.encode(state))
  end
end
`;

export class Workers {
  readonly #options: WorkersOptions;

  constructor(options: WorkersOptions) {
    this.#options = options;
  }

  /**
   * @param receivedAt when a receiver got the events, in seconds since the epoch; undefined if an older release did not note it. Then now counts.
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async merge(events: readonly CeleryEvent[], receivedAt = Date.now() / 1_000): Promise<void> {
    // If the receiver's clock was ahead, a worker that is gone would count as alive until then.
    const heardAt = Math.min(receivedAt, Date.now() / 1_000);
    const args = events.filter(isWorkerEvent).flatMap((event) => {
      const { active: a, processed: p, sw_ver: v } = event;
      const t = Math.min(event.timestamp, heardAt + MOST_AHEAD_SECONDS);
      return [event.hostname, JSON.stringify({ t, k: RANKS[event.type], s: heardAt, a, p, v })];
    });
    if (args.length > 0)
      await onRedis("the state of workers", () => this.#options.redis.eval(MERGE_SCRIPT, 1, this.#options.key, MOST_WORKERS, ...args));
  }

  /**
   * The workers in the order of their names, without those that have not been heard for `purgeSeconds`, or for 5 minutes if there are 5,000.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async all(now = Date.now() / 1_000): Promise<WorkerState[]> {
    const { redis, key, purgeSeconds } = this.#options;
    const stored = await onRedis("the state of workers", () => redis.hgetall(key));
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
          heartbeatAt: state.h < 0 ? undefined : state.h,
          active: state.a,
          processed: state.p,
          version: state.v,
        });
    }
    if (gone.length > 0) await onRedis("the state of workers", () => redis.hdel(key, ...gone));
    return workers.toSorted((a, b) => (a.worker < b.worker ? -1 : 1));
  }
}

function isWorkerEvent(event: CeleryEvent): event is WorkerEvent {
  return event.type in RANKS;
}
