/** The newest observations of the monitor, in Redis. */
import type { Observation, ObservedWorker, QueuesObserved, WorkersObserved } from "@celery-metrics-exporter/celery";
import { type RedisConnection, onRedis } from "@celery-metrics-exporter/runtime";
import { StoreScript } from "../scripts/store-script.ts";
import type { KnownWorkers } from "./workers.ts";

export interface ObservationsOptions {
  readonly redis: RedisConnection;
  /** The key of a hash. */
  readonly key: string;
  /** The age from which an observation is not shown any more, in seconds. */
  readonly maxAgeSeconds: number;
}

export interface Observed {
  readonly queues: QueuesObserved | undefined;
  readonly workers: WorkersObserved | undefined;
}

/** All that is known of workers and queues. */
export interface Watched extends Observed, KnownWorkers {
  /** Since when the oldest message of each queue waits, in seconds since the epoch. */
  readonly waitingSince: ReadonlyMap<string, number>;
}

/**
 *   KEYS  the observations
 *   ARGV  expiry in seconds; then for each: type, timestamp, the observation as JSON
 */
const STORE_SCRIPT = `
for i = 2, #ARGV, 3 do
  local stored = redis.call('HGET', KEYS[1], ARGV[i])
  if not stored or cjson.decode(stored).timestamp < tonumber(ARGV[i + 1]) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2]) end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
`;

export class Observations {
  readonly #options: ObservationsOptions;
  readonly #store: StoreScript;

  constructor(options: ObservationsOptions) {
    this.#options = options;
    this.#store = new StoreScript(options.redis, STORE_SCRIPT, "the monitor's observations");
  }

  /**
   * Keeps the monitor's newest observation of each type. One from the future counts as one from now. Otherwise a monitor whose clock is ahead would hide what
   * the next one observes.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async store(observations: readonly Observation[], now = Date.now() / 1_000): Promise<void> {
    const { key, maxAgeSeconds } = this.#options;
    const args = observations.flatMap((each) => {
      if (each.type === "listened") return [];
      const timestamp = Math.min(each.timestamp, now);
      return [each.type, String(timestamp), JSON.stringify({ ...each, timestamp })];
    });
    if (args.length > 0) await this.#store.run([{ keys: [key], args: [String(Math.ceil(maxAgeSeconds)), ...args] }]);
  }

  /**
   * What is not too old to be shown.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async newest(now = Date.now() / 1_000): Promise<Observed> {
    const { redis, key, maxAgeSeconds } = this.#options;
    const stored = await onRedis("the monitor's observations", () => redis.hgetall(key));
    const read = <O extends Observation>(type: O["type"]): O | undefined => {
      const text = stored[type];
      const observation = text === undefined ? undefined : (JSON.parse(text) as O);
      return observation !== undefined && now - observation.timestamp <= maxAgeSeconds ? observation : undefined;
    };
    return { queues: read<QueuesObserved>("queues-observed"), workers: read<WorkersObserved>("workers-observed") };
  }
}

/** The workers that consume from each queue, and their processes or threads, by the queue's name and in its order. */
export function consumersByQueue(workers: readonly ObservedWorker[]): Map<string, { workers: number; processes: number }> {
  const byQueue = new Map<string, { workers: number; processes: number }>();
  for (const { queues = [], concurrency = 0 } of workers) {
    for (const name of new Set(queues)) {
      const { workers: count, processes } = byQueue.get(name) ?? { workers: 0, processes: 0 };
      byQueue.set(name, { workers: count + 1, processes: processes + concurrency });
    }
  }
  return new Map([...byQueue].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
