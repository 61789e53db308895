/** The environment of a fault test: its own servers, a fleet of every role, and a publisher. */
import { migrate } from "@celery-metrics-exporter/db";
import {
  connectPublisher,
  createDatabase,
  startRedis,
  startStatsdSink,
  type Publisher,
  type RedisServer,
  type StatsdSink,
} from "@celery-metrics-exporter/testkit";
import { Pool } from "pg";
import { expect } from "vitest";
import { Fleet, type FleetOptions } from "../fleet/fleet.ts";
import type { Environment } from "../fleet/role-process.ts";
import { Queues } from "./queues.ts";

export interface SceneOptions {
  readonly brokerUrl: string;
  readonly processes: FleetOptions["processes"];
  readonly env?: Environment;
  /** A private server, instead of a fresh database on the shared one. */
  readonly databaseUrl?: string;
}

interface StartRedisOptions {
  /** Default: `DURABLE`. */
  readonly redisArgs?: readonly string[];
}

/** A scene with a given Redis. */
export interface SceneOnRedis {
  readonly fleet: Fleet;
  readonly publisher: Publisher;
  readonly queues: Queues;
  readonly database: Pool;
  readonly sink: StatsdSink;
  /** Drains the fleet, whose processes must exit with 0, and drops everything. */
  close(): Promise<void>;
}

export interface Scene extends SceneOnRedis {
  readonly redis: RedisServer;
}

/** Options of the Redis for the exporter queues, as we recommend, except for the disk. */
export const DURABLE = ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"];

export async function startScene({ redisArgs = DURABLE, ...options }: SceneOptions & StartRedisOptions): Promise<Scene> {
  const redis = await startRedis({ args: redisArgs });
  return { ...(await startSceneOn(redis, options)), redis };
}

/** @param redis is stopped with the scene. */
export async function startSceneOn(redis: Pick<RedisServer, "url" | "stop">, options: SceneOptions): Promise<SceneOnRedis> {
  const { brokerUrl, processes, env = {} } = options;
  const [sink, testDatabase] = await Promise.all([
    startStatsdSink({ thread: true }),
    options.databaseUrl === undefined ? createDatabase() : undefined,
  ]);
  const databaseUrl = options.databaseUrl ?? testDatabase?.url ?? "";
  await migrate(databaseUrl);
  const fleet = await Fleet.start({
    env: {
      CELERY_BROKER_URL: brokerUrl,
      REDIS_URL: redis.url,
      DATABASE_URL: databaseUrl,
      DD_AGENT_HOST: "127.0.0.1",
      DD_DOGSTATSD_PORT: String(sink.port),
      // Faults divide a task's events. On a busy machine the parts arrive seconds apart, and the numbers are exact only if they meet.
      DATADOG_GRACE_MS: "10000",
      LOG_LEVEL: "info",
      ...env,
    },
    processes,
  });
  const publisher = await connectPublisher(brokerUrl);
  const queues = new Queues(redis.url);
  const database = new Pool({ connectionString: databaseUrl });
  // The server goes away in some tests, and the database at the end of each.
  database.on("error", () => {});
  return {
    fleet,
    publisher,
    queues,
    database,
    sink,
    close: async () => {
      await publisher.close();
      const codes = await fleet.stop();
      await Promise.all([database.end(), queues.close()]);
      await Promise.all([sink.close(), redis.stop(), testDatabase?.drop()]);
      expect(
        codes.every((code) => code === 0),
        `exit codes ${codes.join()}`,
      ).toBe(true);
    },
  };
}
