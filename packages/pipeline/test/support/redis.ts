/** A private Redis for a test file, and connections to it. */
import { Redis } from "ioredis";
import { startRedis } from "@celery-metrics-exporter/testkit";
import { afterAll, beforeAll } from "vitest";

export interface PrivateRedis {
  readonly url: string;
  readonly server: Awaited<ReturnType<typeof startRedis>>;
  /** A connection like those that `connectRedis` makes for a producer. */
  readonly producer: Redis;
}

/** Starts it before the tests of the file, and ends it after them. */
export function privateRedis(args: readonly string[] = []): PrivateRedis {
  let server: PrivateRedis["server"] | undefined;
  let producer: Redis | undefined;
  beforeAll(async () => {
    server = await startRedis({ args });
    producer = new Redis(server.url, { maxRetriesPerRequest: 1, enableOfflineQueue: false, lazyConnect: true });
    producer.on("error", () => {});
    await producer.connect();
  });
  afterAll(async () => {
    producer?.disconnect();
    await server?.stop();
  });
  return {
    get url() {
      return existing(server).url;
    },
    get server() {
      return existing(server);
    },
    get producer() {
      return existing(producer);
    },
  };
}

function existing<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("the Redis of this file is started in beforeAll");
  return value;
}
