/** A small exporter that keeps task events and the newest observations in Redis hashes, to test the contract suite itself. */
import { isTaskEvent } from "@celery-metrics-exporter/celery";
import { UnavailableError, type ConfigSchema } from "@celery-metrics-exporter/runtime";
import { Redis } from "ioredis";
import { z } from "zod";
import { defineExporter, type ExporterDefinition } from "../../src/index.ts";

const KEEP_NEWEST = `
local kept = redis.call("HGET", KEYS[1], ARGV[1])
if not kept or cjson.decode(kept).timestamp < tonumber(ARGV[2]) then redis.call("HSET", KEYS[1], ARGV[1], ARGV[3]) end`;

/**
 * @param key the key of the hash. Its fields are events as JSON, so that repeating an event changes nothing. Observations are in
 * `<key>:observed`, by type.
 */
export function hashExporter(url: string, key: string): ExporterDefinition {
  return defineExporter<ConfigSchema>({
    name: "fixture",
    Config: z.object({}),
    create: ({ lifecycle }) => {
      const redis = new Redis(url, { maxRetriesPerRequest: 1, enableOfflineQueue: false, retryStrategy: () => 50 });
      redis.on("error", () => {});
      lifecycle.defer("fixture Redis", () => redis.disconnect());
      return {
        start: async () => {
          if (redis.status !== "ready") await new Promise<void>((resolve) => redis.once("ready", () => resolve()));
        },
        export: async (events) => {
          const fields = events.filter(isTaskEvent).flatMap((event) => [JSON.stringify(event), event.uuid]);
          if (fields.length > 0) await serving(() => redis.hset(key, ...fields));
        },
        forget: async (ids) => {
          const stored = await serving(() => redis.hgetall(key));
          const sent = new Set(Object.keys(stored).flatMap((field) => (field.includes('"type":"task-sent"') ? [stored[field]] : [])));
          const gone = Object.keys(stored).filter((field) => ids.includes(stored[field] ?? "") && !sent.has(stored[field]));
          if (gone.length > 0) await serving(() => redis.hdel(key, ...gone));
        },
        observe: async (observations) => {
          for (const observation of observations) {
            const { type, timestamp } = observation;
            await serving(() => redis.eval(KEEP_NEWEST, 1, `${key}:observed`, type, timestamp, JSON.stringify(observation)));
          }
        },
        stop: () => Promise.resolve(redis.disconnect()),
      };
    },
  });
}

async function serving<T>(command: () => Promise<T>): Promise<T> {
  try {
    return await command();
  } catch (cause) {
    throw new UnavailableError("fixture Redis is down", { cause });
  }
}
