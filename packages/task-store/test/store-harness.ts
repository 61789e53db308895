/** A Store on a private Redis, with direct access to its hashes. */
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { StoreKeys } from "../src/keys.ts";
import { TaskStore, type TaskStoreOptions } from "../src/task-store.ts";

export const TASK_EXPIRY_SECONDS = 604_800;
export const SENT_EXPIRY_SECONDS = 3_600;

export const storeOptions = {
  queuePrefix: "{cme}",
  owner: "test",
  taskExpirySeconds: TASK_EXPIRY_SECONDS,
  sentExpirySeconds: SENT_EXPIRY_SECONDS,
  leaseMs: 60_000,
  keepWorker: false,
  keepException: false,
};

export class StoreHarness {
  readonly server: RedisServer;
  readonly redis: Redis;
  readonly store: TaskStore;

  private constructor(server: RedisServer, redis: Redis, options: Partial<TaskStoreOptions>) {
    this.server = server;
    this.redis = redis;
    this.store = this.another(options);
  }

  static async start(options: Partial<TaskStoreOptions> = {}): Promise<StoreHarness> {
    const server = await startRedis();
    const redis = new Redis(server.url, { maxRetriesPerRequest: 1 });
    redis.on("error", () => {});
    return new StoreHarness(server, redis, options);
  }

  /** Another Store on the same keys. */
  another(options: Partial<TaskStoreOptions>): TaskStore {
    return new TaskStore({ ...storeOptions, redis: this.redis, ...options });
  }

  /** The value of `o` (see `state.ts`). */
  async state(id: string, owner?: string): Promise<string | undefined> {
    return (await this.redis.hget(keyOf(id, owner), "o")) ?? undefined;
  }

  /** Without `o`, which depends on the time of the test. */
  async hash(id: string, owner?: string): Promise<Map<string, string>> {
    const fields = Object.entries(await this.redis.hgetall(keyOf(id, owner)));
    return new Map(fields.filter(([field]) => field !== "o"));
  }

  size(id: string): Promise<number> {
    return this.redis.hlen(keyOf(id));
  }

  ttlSeconds(id: string, owner?: string): Promise<number> {
    return this.redis.ttl(keyOf(id, owner));
  }

  async memoryBytes(id: string): Promise<number | null> {
    return this.redis.memory("USAGE", keyOf(id));
  }

  /** `listpack` is the compact form; `hashtable` takes three times the memory. */
  async encoding(id: string): Promise<unknown> {
    return this.redis.object("ENCODING", keyOf(id));
  }

  async clear(): Promise<void> {
    await this.redis.flushall();
  }

  async close(): Promise<void> {
    this.redis.disconnect();
    await this.server.stop();
  }
}

function keyOf(id: string, owner = "test"): string {
  return new StoreKeys("{cme}", owner).keyOf(id);
}
