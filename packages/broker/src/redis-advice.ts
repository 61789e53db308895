/** What to check when nothing comes from Redis: a wrong database, prefix or exchange is no error there, only silence. */
import { eventChannels } from "@celery-metrics-exporter/events";
import type { RedisServer } from "@celery-metrics-exporter/runtime";
import { Redis } from "ioredis";
import { redisLabel } from "./server-label.ts";
import { connectionOptions, type RedisSubscription } from "./redis-session.ts";

/** What was heard on channels that look like Celery's. */
export interface Overheard {
  /** Channels without their routing keys, such as `/1.celeryev`. */
  readonly channels: readonly string[];
  /** Whether Redis let us listen at all. */
  readonly allowed: boolean;
}

const DEFAULT_EXCHANGE = "celeryev";
/** Workers send a heartbeat every 2 s. */
const LISTEN_MS = 5_000;
const MAX_CHANNELS = 5;
const MAX_MESSAGES = 2_000;
const MAX_NAME = 200;

/**
 * Listens for some seconds, on a connection of its own, to every channel that carries events of Celery's default exchange or ours, or
 * heartbeats of any. `PUBSUB CHANNELS` would not help: it lists channels that somebody listens to, not those that carry messages.
 */
export async function listenAround(server: RedisServer, subscription: RedisSubscription, listenMs = LISTEN_MS): Promise<Overheard> {
  const redis = new Redis({ ...connectionOptions(server, subscription), enableReadyCheck: false });
  redis.on("error", () => {});
  const channels = new Set<string>();
  let messages = 0;
  try {
    await redis.connect();
    const enough = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, listenMs);
      redis.once("end", () => {
        clearTimeout(timer);
        resolve();
      });
      redis.on("pmessageBuffer", (_pattern: string, channel: Buffer) => {
        messages += 1;
        channels.add(withoutRoutingKey(channel.toString("utf8", 0, MAX_NAME)));
        if (channels.size >= MAX_CHANNELS || messages >= MAX_MESSAGES) redis.disconnect();
      });
    });
    const allowed = await subscribeToAny(redis, subscription.exchange ?? DEFAULT_EXCHANGE);
    if (allowed) await enough;
    return { channels: [...channels], allowed };
  } finally {
    redis.disconnect();
  }
}

/** One by one: Redis refuses a command whose patterns are not all granted. */
async function subscribeToAny(redis: Redis, exchange: string): Promise<boolean> {
  const names = new Set([DEFAULT_EXCHANGE, exchange.replaceAll(/[\\*?[\]]/g, "?")]);
  let allowed = false;
  for (const pattern of [...[...names].map((name) => `*${name}*`), "*/worker.heartbeat"]) {
    try {
      await redis.psubscribe(pattern);
      allowed = true;
    } catch {
      // Not granted.
    }
  }
  return allowed;
}

function withoutRoutingKey(channel: string): string {
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
    ? `No channel of this Redis carries Celery's events (looked for *${DEFAULT_EXCHANGE}* and */worker.heartbeat).`
    : "This Redis user may not look for other channels.";
  return `check that a worker runs, with -E, on ${redisLabel(server)} (CELERY_BROKER_URL, with its database), and that its transport options match CELERY_GLOBAL_KEYPREFIX and CELERY_FANOUT_PREFIX, and its event_exchange EVENT_EXCHANGE; we listen to ${ours}. ${nothing}`;
}

interface Ours {
  readonly ours: string;
  readonly subscription: RedisSubscription;
  readonly db: number;
}

/** Which of our settings would have to change to hear this channel. */
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
