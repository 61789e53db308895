/** What to check if no message arrives from Redis. With a wrong database, prefix or exchange, Redis reports no error and stays silent. */
import { eventChannels } from "@celery-metrics-exporter/celery";
import { type RedisServer, toError } from "@celery-metrics-exporter/runtime";
import { Redis } from "ioredis";
import { DEFAULT_EXCHANGE, redisLabel } from "../url/broker-url.ts";
import { type RedisSubscription, connectionOptions } from "./session.ts";

/** The messages found on channels that look like Celery's. */
export interface Overheard {
  /** Channels without their routing keys, such as `/1.celeryev`. */
  readonly channels: readonly string[];
  /** Whether Redis allowed us to listen. */
  readonly allowed: boolean;
}

/** Workers send a heartbeat every 2 s. */
const LISTEN_MS = 5_000;
const ANSWER_TIMEOUT_MS = 5_000;
const MAX_CHANNELS = 5;
const MAX_MESSAGES = 2_000;
const MAX_NAME = 200;

/**
 * Listens for some seconds, on a separate connection, to every channel with events of Celery's default exchange or ours, or with heartbeats of
 * any exchange. `PUBSUB CHANNELS` does not help: it lists channels with subscribers, not channels with messages.
 *
 * @throws {Error} if Redis does not answer in time.
 */
export async function listenAround(server: RedisServer, subscription: RedisSubscription, listenMs = LISTEN_MS): Promise<Overheard> {
  const options = { ...connectionOptions(server, subscription), enableReadyCheck: false, commandTimeout: ANSWER_TIMEOUT_MS };
  const redis = new Redis(options);
  redis.on("error", () => {});
  const exchanges = [...new Set([DEFAULT_EXCHANGE, subscription.exchange ?? DEFAULT_EXCHANGE])];
  const channels = new Set<string>();
  let messages = 0;
  const isEnough = (): boolean => channels.size >= MAX_CHANNELS || messages >= MAX_MESSAGES;
  try {
    await redis.connect();
    const enough = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, listenMs);
      redis.once("end", () => {
        clearTimeout(timer);
        resolve();
      });
      redis.on("pmessageBuffer", (_pattern: string, bytes: Buffer) => {
        messages += 1;
        const channel = bytes.toString("utf8", 0, MAX_NAME);
        if (!KEYSPACE.test(channel)) channels.add(withoutRoutingKey(channel, exchanges));
        if (isEnough()) redis.disconnect();
      });
    });
    const allowed = await subscribeToAny(redis, exchanges, isEnough);
    if (allowed) await enough;
    return { channels: [...channels], allowed };
  } finally {
    redis.disconnect();
  }
}

/** Key events that Redis publishes if `notify-keyspace-events` is set. They match because kombu stores its bindings in keys named after the exchange. */
const KEYSPACE = /^__key(space|event)@\d+__:/;

/** Subscribes to each pattern separately: Redis rejects a command if any of its patterns is not permitted. */
async function subscribeToAny(redis: Redis, exchanges: readonly string[], isEnough: () => boolean): Promise<boolean> {
  const names = exchanges.map((name) => `*${name.replaceAll(/[\\*?[\]]/g, "?")}*`);
  let allowed = false;
  for (const pattern of [...names, "*/worker.heartbeat"]) {
    try {
      await redis.psubscribe(pattern);
      allowed = true;
    } catch (thrown) {
      if (isEnough()) return true;
      if (!toError(thrown).message.startsWith("NOPERM")) throw thrown;
    }
  }
  return allowed;
}

/** Removes the routing key: the event's type with dots instead of hyphens. A custom type may be a single word. */
function withoutRoutingKey(channel: string, exchanges: readonly string[]): string {
  const numbered = /^(.*?\/\d+\.[^/]+)\//s.exec(channel)?.[1];
  if (numbered !== undefined) return numbered;
  for (const exchange of exchanges) {
    const end = channel.indexOf(`${exchange}/`) + exchange.length;
    if (end >= exchange.length) return channel.slice(0, end);
  }
  return channel.replace(/\/[a-z][\w-]*(\.[\w-]+)+$/i, "");
}

export function redisAdvice(server: RedisServer, subscription: RedisSubscription, { channels, allowed }: Overheard): string {
  const { db } = server;
  const [ours = ""] = eventChannels({ ...subscription, fanoutPatterns: false, db }).channels;
  if (channels.length > 0) {
    const found = channels.map((channel) => `${channel} (${remedy(channel, { ours, subscription, db })})`).join(", ");
    return `events arrive on ${found}; we listen to ${ours}.`;
  }
  const nothing = allowed
    ? `No channel of this Redis carries Celery's events (searched for *${DEFAULT_EXCHANGE}* and */worker.heartbeat).`
    : "This Redis user is not permitted to search other channels.";
  return `check that a worker runs, with -E, on ${redisLabel(server)} (CELERY_BROKER_URL, with its database), and that its transport options match CELERY_GLOBAL_KEYPREFIX and CELERY_FANOUT_PREFIX, and that its event_exchange is EVENT_EXCHANGE; we listen to ${ours}. ${nothing}`;
}

interface Ours {
  readonly ours: string;
  readonly subscription: RedisSubscription;
  readonly db: number;
}

/** The settings to change in order to receive this channel. */
function remedy(channel: string, { ours, subscription, db }: Ours): string {
  const { exchange = DEFAULT_EXCHANGE, globalKeyprefix = "", fanoutPrefix = true } = subscription;
  if (channel === ours) return "CELERY_FANOUT_PATTERNS=both";
  const [, before, number, name] = /^(.*?)\/(\d+)\.(.+)$/s.exec(channel) ?? [];
  const settings: string[] = [];
  if (before === undefined || name === undefined) {
    if (!channel.endsWith(exchange)) return "EVENT_EXCHANGE";
    const prefix = channel.slice(0, -exchange.length);
    return prefix === "" ? "CELERY_FANOUT_PREFIX=false" : `CELERY_FANOUT_PREFIX or CELERY_GLOBAL_KEYPREFIX=${prefix}`;
  }
  if (Number(number) !== db) settings.push(`database ${number} in CELERY_BROKER_URL`);
  if (before !== globalKeyprefix) settings.push(`CELERY_GLOBAL_KEYPREFIX=${before}`);
  if (name !== exchange) settings.push(`EVENT_EXCHANGE=${name}`);
  if (fanoutPrefix !== true && fanoutPrefix !== "/{db}.") settings.push("CELERY_FANOUT_PREFIX=true");
  return settings.join(" and ");
}
