/**
 * The messages that were sent and that no worker has received, in Redis, for the age of the oldest one in each queue.
 *
 * Only messages that are received in a later batch than they were sent come here, and of a long queue only the oldest and every 64th of the others: so the
 * age stays right within a few messages. Events may come twice and in any order, so a message may be here although it was received. Whoever reads the
 * oldest ones asks the Store about them, and removes those that do not wait.
 */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { type RedisConnection, onRedis } from "@celery-metrics-exporter/runtime";
import { type Observed, StoreScript, type TaskEntry, type TaskStore } from "@celery-metrics-exporter/task-store";

export interface WaitingMessagesOptions {
  readonly redis: RedisConnection;
  /** The beginning of its keys. */
  readonly key: string;
  readonly store: Pick<TaskStore, "look">;
  /** How long a message is remembered after the last change, in seconds. */
  readonly expirySeconds: number;
}

/** Messages of a queue that are all kept, and of all queues together. */
const MOST_OF_QUEUE = 10_000;
const MOST = 200_000;
/** Clients may invent queues, and each is looked at every time. Messages of further queues are not kept. */
const MOST_QUEUES = 1_000;
/** Of further messages of a queue, one in so many is kept. */
const SAMPLED = 64;
/** Messages of a queue that are looked up in the Store at a time. */
const LOOKED_UP = 20;
/** A queue that the monitor found empty may have had messages until a moment before, by clocks that differ. */
const MARGIN_SECONDS = 5;

/**
 * KEYS of each script: messages, a sorted set of `queue NUL time NUL message` without scores; places, a hash from message to `queue NUL time`; the set of
 * the queues that have messages, and of some that had.
 *
 * ARGV: expiry in seconds; the limits of a queue's messages, of all messages, of queues; what was sent and what was received, as JSON.
 */
const MERGE_SCRIPT = `
local ofQueue, all, queues = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local counts = {}
local function isKept(queue) return counts[queue] > 0 or redis.call('SCARD', KEYS[3]) < queues end
for _, message in ipairs(cjson.decode(ARGV[6])) do
  local place = redis.call('HGET', KEYS[2], message)
  if place then
    redis.call('ZREM', KEYS[1], place .. '\\0' .. message)
    redis.call('HDEL', KEYS[2], message)
  end
end
for _, added in ipairs(cjson.decode(ARGV[5])) do
  local message, queue, time, isSampled = added[1], added[2], added[3], added[4]
  if redis.call('HEXISTS', KEYS[2], message) == 0 then
    counts[queue] = counts[queue] or redis.call('ZLEXCOUNT', KEYS[1], '[' .. queue .. '\\0', '(' .. queue .. '\\1')
    if (counts[queue] < ofQueue or isSampled) and redis.call('HLEN', KEYS[2]) < all and isKept(queue) then
      redis.call('SADD', KEYS[3], queue)
      redis.call('ZADD', KEYS[1], 0, queue .. '\\0' .. time .. '\\0' .. message)
      redis.call('HSET', KEYS[2], message, queue .. '\\0' .. time)
      counts[queue] = counts[queue] + 1
    end
  end
end
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end
`;

/** ARGV: messages of each queue. Replies with the oldest ones. */
const OLDEST_SCRIPT = `
local oldest = {}
for _, queue in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  local members = redis.call('ZRANGEBYLEX', KEYS[1], '[' .. queue .. '\\0', '(' .. queue .. '\\1', 'LIMIT', 0, ARGV[1])
  if #members == 0 then redis.call('SREM', KEYS[3], queue) end
  for _, member in ipairs(members) do oldest[#oldest + 1] = member end
end
return oldest
`;

/** ARGV: queue; time. Removes the messages of the queue up to that time. */
const PURGE_SCRIPT = `
for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], '[' .. ARGV[1] .. '\\0', '(' .. ARGV[1] .. '\\0' .. ARGV[2])) do
  redis.call('ZREM', KEYS[1], member)
  redis.call('HDEL', KEYS[2], member:match('^[^%z]*%z[^%z]*%z(.*)$'))
end
`;

/** A message that may wait. */
interface Candidate {
  readonly message: string;
  readonly id: string;
  readonly retries: number;
  readonly queue: string;
  /** When it was sent, or its ETA if that is later. Seconds since the epoch. */
  readonly since: number;
}

export class WaitingMessages {
  readonly #options: WaitingMessagesOptions;
  readonly #keys: readonly string[];
  readonly #merge: StoreScript;

  constructor(options: WaitingMessagesOptions) {
    this.#options = options;
    this.#merge = new StoreScript(options.redis, MERGE_SCRIPT, "the waiting messages");
    this.#keys = ["messages", "places", "queues"].map((name) => `${options.key}:${name}`);
  }

  /** @throws {UnavailableError} if Redis is unavailable. */
  async merge(events: readonly CeleryEvent[]): Promise<void> {
    const sent = new Map<string, readonly [message: string, queue: string, time: string, isSampled: boolean]>();
    const received = new Set<string>();
    for (const event of events) {
      if (isSent(event) && event.queue !== undefined && event.excluded !== true) {
        const message = messageOf(event);
        sent.set(message, [message, event.queue, timeText(Math.max(event.timestamp, event.eta ?? 0)), Math.random() * SAMPLED < 1]);
      } else if (isReceived(event)) received.add(messageOf(event));
    }
    // The usual case: it was received at once, and needs no place.
    for (const message of received) if (sent.delete(message)) received.delete(message);
    await this.#change([...sent.values()], [...received]);
  }

  /**
   * Since when the oldest message of each queue waits, in seconds since the epoch. Forgets the messages of queues that the monitor found empty.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async oldest({ queues }: Pick<Observed, "queues">, now = Date.now() / 1_000): Promise<Map<string, number>> {
    const candidates = await this.#candidates();
    const names = new Set(candidates.map(({ queue }) => queue));
    for (const { name, messages } of queues?.queues ?? []) {
      if (messages === 0 && names.has(name)) await this.#purge(name, (queues?.timestamp ?? 0) - MARGIN_SECONDS);
    }
    const entries = await this.#options.store.look(candidates.map(({ id }) => id));
    const oldest = new Map<string, number>();
    const gone: string[] = [];
    for (const candidate of candidates) {
      const { queue, since, message } = candidate;
      if (!isWaiting(candidate, entries.get(candidate.id))) gone.push(message);
      else if (since <= now && !oldest.has(queue)) oldest.set(queue, since);
    }
    await this.#change([], gone);
    return oldest;
  }

  async #candidates(): Promise<Candidate[]> {
    const members = (await this.#eval(OLDEST_SCRIPT, LOOKED_UP)) as string[];
    return members.map((member) => {
      const [queue = "", time = "", message = ""] = member.split("\0");
      const colon = message.indexOf(":");
      return { message, id: message.slice(colon + 1), retries: Number(message.slice(0, colon)), queue, since: Number(time) / 1_000 };
    });
  }

  async #purge(queue: string, until: number): Promise<void> {
    await this.#eval(PURGE_SCRIPT, queue, timeText(until));
  }

  async #change(sent: readonly unknown[], received: readonly string[]): Promise<void> {
    if (sent.length + received.length === 0) return;
    const { expirySeconds } = this.#options;
    const limits = [expirySeconds, MOST_OF_QUEUE, MOST, MOST_QUEUES].map(String);
    await this.#merge.run([{ keys: this.#keys, args: [...limits, JSON.stringify(sent), JSON.stringify(received)] }]);
  }

  async #eval(script: string, ...args: readonly (string | number)[]): Promise<unknown> {
    return onRedis("the waiting messages", () => this.#options.redis.eval(script, this.#keys.length, ...this.#keys, ...args));
  }
}

type Sent = Extract<CeleryEvent, { readonly type: "task-sent" }>;
type Received = Extract<CeleryEvent, { readonly type: "task-received" }>;

function isSent(event: CeleryEvent): event is Sent {
  return event.type === "task-sent";
}

function isReceived(event: CeleryEvent): event is Received {
  return event.type === "task-received";
}

/** A retry is a message of its own. */
function messageOf({ uuid, retries = 0 }: Sent | Received): string {
  return `${retries}:${uuid}`;
}

/** Milliseconds with leading zeros, so that texts are in the order of time. */
function timeText(seconds: number): string {
  return String(Math.max(0, Math.round(seconds * 1_000))).padStart(15, "0");
}

/** Whether the Store knows that it was sent, and of nothing that a worker did with it. */
function isWaiting({ retries }: Candidate, entry: TaskEntry | undefined): boolean {
  const { sent = [], received = [], started = [], finals = [] } = entry?.facts ?? {};
  const sending = sent.find((fact) => fact.retries === retries);
  if (sending === undefined || received.some((fact) => fact.retries >= retries)) return false;
  return ![...started, ...finals].some(({ at }) => at >= sending.at);
}
