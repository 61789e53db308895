/**
 * The messages that were sent and that no worker has received, in Redis, for the age of the oldest one in each queue.
 *
 * Only messages that are received in a later batch than they were sent come here, and of a long queue only the oldest and every 64th of the others: so the
 * age stays right within a few messages. Events may come twice and in any order, so a message may be here although it was received. Whoever reads the
 * oldest ones asks the Store about them, and removes those that do not wait.
 */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { IN_PARTS, type Observed, StoreScript, type TaskEntry, type TaskStore } from "@celery-metrics-exporter/task-store";

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
 * ARGV: expiry in seconds; the limits of a queue's messages, of all messages, of queues; as JSON, what was sent: message, queue, time and whether it is
 * sampled (1 or 0), for each; as JSON, the messages that were received.
 */
const MERGE_SCRIPT = `
${IN_PARTS}
local call = redis.call
local ofQueue, all, queues = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local found, members = {}, {}
local received = cjson.decode(ARGV[6])
for i, place in ipairs(inParts('HMGET', KEYS[2], received)) do
  if place then
    found[#found + 1] = received[i]
    members[#members + 1] = place .. '\\0' .. received[i]
  end
end
inParts('ZREM', KEYS[1], members)
inParts('HDEL', KEYS[2], found)

local counts = {}
local function isKept(queue)
  if counts[queue] > 0 then return true end
  if call('SCARD', KEYS[3]) >= queues then return false end
  call('SADD', KEYS[3], queue)
  return true
end

local sent, messages = cjson.decode(ARGV[5]), {}
for i = 1, #sent, 4 do messages[#messages + 1] = sent[i] end
local size = call('HLEN', KEYS[2])
local places, scored = {}, {}
for i, place in ipairs(inParts('HMGET', KEYS[2], messages)) do
  local at = 4 * i - 3
  local message, queue, isSampled = sent[at], sent[at + 1], sent[at + 3] == 1
  if not place then
    counts[queue] = counts[queue] or call('ZLEXCOUNT', KEYS[1], '[' .. queue .. '\\0', '(' .. queue .. '\\1')
    if (counts[queue] < ofQueue or isSampled) and size < all and isKept(queue) then
      place = queue .. '\\0' .. sent[at + 2]
      places[#places + 1] = message
      places[#places + 1] = place
      scored[#scored + 1] = 0
      scored[#scored + 1] = place .. '\\0' .. message
      counts[queue] = counts[queue] + 1
      size = size + 1
    end
  end
end
inParts('ZADD', KEYS[1], scored)
inParts('HSET', KEYS[2], places)
for _, key in ipairs(KEYS) do call('EXPIRE', key, ARGV[1]) end
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

/** As in the format of `MERGE_SCRIPT`. */
type Sending = readonly [message: string, queue: string, time: string, isSampled: 0 | 1];

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
  readonly #oldest: StoreScript;
  readonly #purge: StoreScript;

  constructor(options: WaitingMessagesOptions) {
    this.#options = options;
    const script = (source: string): StoreScript => new StoreScript(options.redis, source, "the waiting messages");
    this.#merge = script(MERGE_SCRIPT);
    this.#oldest = script(OLDEST_SCRIPT);
    this.#purge = script(PURGE_SCRIPT);
    this.#keys = ["messages", "places", "queues"].map((name) => `${options.key}:${name}`);
  }

  /** @throws {UnavailableError} if Redis is unavailable. */
  async merge(events: readonly CeleryEvent[]): Promise<void> {
    const sent = new Map<string, Sending>();
    const received = new Set<string>();
    for (const event of events) {
      if (isSent(event) && event.queue !== undefined && event.excluded !== true) {
        const message = messageOf(event);
        sent.set(message, [message, event.queue, timeText(Math.max(event.timestamp, event.eta ?? 0)), Math.random() * SAMPLED < 1 ? 1 : 0]);
      } else if (isReceived(event)) received.add(messageOf(event));
    }
    // The usual case: it was received at once, and needs no place.
    for (const message of received) if (sent.delete(message)) received.delete(message);
    await this.#change([...sent.values()].flat(), [...received]);
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
      if (messages === 0 && names.has(name)) await this.#run(this.#purge, name, timeText((queues?.timestamp ?? 0) - MARGIN_SECONDS));
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
    const members = (await this.#run(this.#oldest, String(LOOKED_UP))) as string[];
    return members.map((member) => {
      const [queue = "", time = "", message = ""] = member.split("\0");
      const colon = message.indexOf(":");
      return { message, id: message.slice(colon + 1), retries: Number(message.slice(0, colon)), queue, since: Number(time) / 1_000 };
    });
  }

  async #change(sent: readonly unknown[], received: readonly string[]): Promise<void> {
    if (sent.length + received.length === 0) return;
    const { expirySeconds } = this.#options;
    const limits = [expirySeconds, MOST_OF_QUEUE, MOST, MOST_QUEUES].map(String);
    await this.#run(this.#merge, ...limits, JSON.stringify(sent), JSON.stringify(received));
  }

  async #run(script: StoreScript, ...args: readonly string[]): Promise<unknown> {
    const [reply] = await script.run([{ keys: this.#keys, args }]);
    return reply;
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
