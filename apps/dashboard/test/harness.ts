/** A running dashboard over a private Redis. */
import { freePort, startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { createLogger, startRoles, type Environment, type RunningRoles } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { dashboard } from "../src/dashboard.ts";

export interface Harness {
  readonly redis: Redis;
  /** The dashboard's address, without a trailing slash. */
  readonly url: string;
  /** Log lines with warnings and errors. */
  readonly log: readonly string[];
  queue(name: string): Queue;
  stop(): Promise<void>;
}

let server: RedisServer | undefined;

export const CREDENTIALS = { DASHBOARD_USERNAME: "ops", DASHBOARD_PASSWORD: "correct horse: battery" };

export function authorization(username: string, password: string): Record<string, string> {
  return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}` };
}

/** The Redis that all tests of the file share. */
export async function sharedRedis(): Promise<RedisServer> {
  server ??= await startRedis();
  return server;
}

/** Starts the dashboard with these settings and an empty Redis, which all harnesses of the file share. */
export async function startDashboard(settings: Environment = {}): Promise<Harness> {
  const { url } = await sharedRedis();
  const redis = new Redis(url, { maxRetriesPerRequest: null });
  await redis.flushall();
  const port = await freePort();
  const log: string[] = [];
  const env = { REDIS_URL: url, DASHBOARD_PORT: String(port), ...settings };
  const running: RunningRoles = await startRoles([dashboard], env, createLogger("dashboard", "warn", { write: (line) => log.push(line) }));
  const queues: Queue[] = [];
  return {
    redis,
    url: `http://127.0.0.1:${port}`,
    log,
    queue: (name) => {
      const queue = new Queue(name, { connection: redis, prefix: "{cme}" });
      queues.push(queue);
      return queue;
    },
    stop: async () => {
      await running.stop();
      for (const queue of queues) await queue.close();
      await redis.quit();
    },
  };
}

export async function stopRedis(): Promise<void> {
  await server?.stop();
  server = undefined;
}
