/**
 * The label values in use, with a limit. Whatever senders put into names, there are never more than so many series.
 *
 * A set of label values has an id that follows from the values, so all processes and shards agree on it, also after Redis lost everything. Redis holds the
 * values by id, and when each was last used. Past the limit, a new set gets the id of `other`.
 */
import { createHash } from "node:crypto";
import { type RedisConnection, onRedis } from "@celery-metrics-exporter/runtime";

export interface LabelRegistryOptions {
  readonly redis: RedisConnection;
  /**
   * Redis keys with the same hash tag: a hash from id to values; a sorted set of ids by their last use in seconds; a hash from id to when it was registered,
   * in seconds, which outlives the values (see `forgetCreated`).
   */
  readonly keys: { readonly values: string; readonly used: string; readonly created: string };
  readonly max: number;
  /** The values that stand for those past the limit. They do not count. */
  readonly other: readonly string[];
  /** Called with sets that are in use, about once a minute for each. */
  readonly onUsed?: (sets: readonly (readonly string[])[]) => Promise<void>;
  /** How long an answer of Redis is remembered. Also how exactly the last use is known. */
  readonly rememberedMs?: number;
}

/**
 *   KEYS  the values; the last uses; when they were registered
 *   ARGV  the limit; the id of `other`; alternating ids and values
 *
 * Notes that the ids are used, and adds new ones up to the limit. Replies with 1 or 0 for each: whether it is in the registry.
 */
const REGISTER_SCRIPT = `
local now = redis.call('TIME')[1]
local size = redis.call('HLEN', KEYS[1]) - redis.call('HEXISTS', KEYS[1], ARGV[2])
local known = {}
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local isKnown = redis.call('HEXISTS', KEYS[1], id)
  if isKnown == 0 and (size < tonumber(ARGV[1]) or id == ARGV[2]) then
    redis.call('HSET', KEYS[1], id, ARGV[i + 1])
    if redis.call('HEXISTS', KEYS[3], id) == 0 then redis.call('HSET', KEYS[3], id, now) end
    isKnown = 1
    if id ~= ARGV[2] then size = size + 1 end
  end
  if isKnown == 1 then redis.call('ZADD', KEYS[2], now, id) end
  known[#known + 1] = isKnown
end
return known
`;

/**
 *   KEYS  the values; the last uses
 *   ARGV  how long unused, in seconds
 *
 * Removes the sets that have not been used for that long.
 */
const EXPIRE_SCRIPT = `
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', redis.call('TIME')[1] - ARGV[1], 'LIMIT', 0, 1000)
for _, id in ipairs(ids) do
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
end
`;

/**
 *   KEYS  the values; when they were registered
 *   ARGV  ids
 *
 * Forgets when these were registered, except for those that are again.
 */
const FORGET_CREATED_SCRIPT = `
for _, id in ipairs(ARGV) do
  if redis.call('HEXISTS', KEYS[1], id) == 0 then redis.call('HDEL', KEYS[2], id) end
end
`;

/** Separates the values of a set. No value contains it. */
export const SEPARATOR = "\0";
const REMEMBERED_MS = 60_000;
/** Sets beyond the limit that a process remembers. A flood of others is asked for again. */
const MOST_OTHERS = 5_000;
/** Sets that one call of the script registers. */
const PAGE = 500;

/** A set of label values, as one text. */
export function labelSet(...values: readonly string[]): string {
  return values.join(SEPARATOR);
}

interface Remembered {
  readonly id: string;
  readonly until: number;
}

export class LabelRegistry {
  /** The id of the sets past the limit. */
  readonly otherId: string;
  readonly #options: LabelRegistryOptions;
  readonly #other: string;
  readonly #remembered = new Map<string, Remembered>();
  /** What `all` returned last. Its lists are returned again, so that readers can keep what they made of them. */
  #last: ReadonlyMap<string, readonly string[]> = new Map();

  constructor(options: LabelRegistryOptions) {
    this.#options = options;
    this.#other = labelSet(...options.other);
    this.otherId = idOf(this.#other);
  }

  /** The largest number of sets. */
  get max(): number {
    return this.#options.max;
  }

  /**
   * Finds or assigns the ids of sets of values.
   *
   * @param sets from `labelSet`.
   * @returns the ids by set.
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async resolve(sets: ReadonlySet<string>): Promise<ReadonlyMap<string, string>> {
    const now = performance.now();
    const ids = new Map<string, string>();
    const asked: string[] = [];
    for (const set of sets) {
      const id = this.#rememberedId(set, now);
      if (id === undefined) asked.push(set);
      else ids.set(set, id);
    }
    if (asked.length > 0) await this.#ask(asked, ids);
    return ids;
  }

  /** Looks ids up for one piece of work. */
  lookUp(): LookUp {
    const now = performance.now();
    return new LookUp(this, (set) => this.#rememberedId(set, now));
  }

  /** Registers all sets again when they are next used: Redis may have lost them. */
  forget(): void {
    this.#remembered.clear();
  }

  /**
   * All sets of values by id.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async all(): Promise<ReadonlyMap<string, readonly string[]>> {
    const { redis, keys } = this.#options;
    const values = await onRedis("reading labels", () => redis.hgetall(keys.values));
    for (const [set, { id }] of this.#remembered) if (!(id in values)) this.#remembered.delete(set);
    const before = this.#last;
    // An id follows from the values.
    this.#last = new Map(Object.entries(values).map(([id, set]) => [id, before.get(id) ?? set.split(SEPARATOR)]));
    return this.#last;
  }

  /**
   * Forgets the sets that nobody has used for that long, so that others can take their place.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async expire(unusedSeconds: number): Promise<void> {
    const { redis, keys } = this.#options;
    await onRedis("forgetting unused labels", () => redis.eval(EXPIRE_SCRIPT, 2, keys.values, keys.used, unusedSeconds));
  }

  /**
   * When each set was registered, in seconds since the epoch. Its counts were 0 then.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async created(): Promise<ReadonlyMap<string, number>> {
    const { redis, keys } = this.#options;
    const created = await onRedis("reading labels", () => redis.hgetall(keys.created));
    return new Map(Object.entries(created).map(([id, at]) => [id, Number(at)]));
  }

  /**
   * Forgets when sets were registered that are not known any more.
   *
   * @param isKept whether a set may become known again and continue where it was, because its counts are still there.
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async forgetCreated(isKept: (id: string) => boolean): Promise<void> {
    const { redis, keys } = this.#options;
    const [created, known] = [await this.created(), await this.all()];
    const gone = [...created.keys()].filter((id) => !known.has(id) && !isKept(id));
    if (gone.length === 0) return;
    await onRedis("forgetting unused labels", () => redis.eval(FORGET_CREATED_SCRIPT, 2, keys.values, keys.created, ...gone));
  }

  #rememberedId(set: string, now: number): string | undefined {
    const remembered = this.#remembered.get(set);
    return remembered === undefined || remembered.until < now ? undefined : remembered.id;
  }

  /** The sets in use come again. */
  #makeRoom(): void {
    for (const [set, { id }] of this.#remembered) if (id === this.otherId) this.#remembered.delete(set);
    if (this.#remembered.size > this.#options.max + MOST_OTHERS) this.#remembered.clear();
  }

  async #ask(sets: readonly string[], ids: Map<string, string>): Promise<void> {
    const until = performance.now() + (this.#options.rememberedMs ?? REMEMBERED_MS);
    if (this.#remembered.size > this.#options.max + MOST_OTHERS) this.#makeRoom();
    for (let from = 0; from < sets.length; from += PAGE) {
      const page = sets.slice(from, from + PAGE);
      const known = await this.#register(page);
      for (const [index, set] of page.entries()) {
        const id = known[index] === 1 ? idOf(set) : this.otherId;
        this.#remembered.set(set, { id, until });
        ids.set(set, id);
      }
      const used = page.filter((_, index) => known[index] === 1);
      if (used.length > 0) await this.#options.onUsed?.(used.map((set) => set.split(SEPARATOR)));
    }
  }

  #register(sets: readonly string[]): Promise<readonly number[]> {
    const { redis, max, keys } = this.#options;
    const pairs = [...sets, this.#other].flatMap((set) => [idOf(set), set]);
    return onRedis(
      "registering labels",
      () => redis.eval(REGISTER_SCRIPT, 3, keys.values, keys.used, keys.created, max, this.otherId, ...pairs) as Promise<number[]>,
    );
  }
}

/**
 * The ids that one piece of work needs. Mostly the process remembers all of them, so the work need not find out first which ones it needs: it asks for those
 * that are missing, and is done again.
 */
export class LookUp {
  readonly #registry: LabelRegistry;
  readonly #remembered: (set: string) => string | undefined;
  readonly #missing = new Set<string>();
  #asked: ReadonlyMap<string, string> | undefined;

  constructor(registry: LabelRegistry, remembered: (set: string) => string | undefined) {
    this.#registry = registry;
    this.#remembered = remembered;
  }

  /** Undefined if it is missing. */
  idOf(set: string): string | undefined {
    const id = this.#asked?.get(set) ?? this.#remembered(set);
    if (id === undefined) this.#missing.add(set);
    return id;
  }

  /**
   * Asks for what was missing.
   *
   * @returns whether anything was.
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async ask(): Promise<boolean> {
    if (this.#missing.size === 0) return false;
    this.#asked = new Map([...(this.#asked ?? []), ...(await this.#registry.resolve(this.#missing))]);
    this.#missing.clear();
    return true;
  }
}

/** 46 bits: among 5,000 sets, two get the same id once in five million deployments. */
function idOf(set: string): string {
  return (createHash("sha1").update(set).digest().readUIntBE(0, 6) % 2 ** 46).toString(36);
}
