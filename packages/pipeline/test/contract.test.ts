/** The contract suite, on an exporter simple enough to be right. */
import { startRedis } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { createTestExporter, describeExporter } from "../src/testing/index.ts";
import { hashExporter } from "./support/fixture-exporter.ts";

describeExporter("an exporter into a Redis hash", async () => {
  const server = await startRedis({ args: ["--appendonly", "yes", "--appendfsync", "always"] });
  const test = await createTestExporter(hashExporter(server.url, "events"), { REDIS_URL: server.url });
  return {
    exporter: test.exporter,
    observe: async () => {
      await test.settled();
      const redis = new Redis(server.url);
      const stored = Object.keys(await redis.hgetall("events")).toSorted();
      redis.disconnect();
      return stored;
    },
    breakSink: () => server.kill(),
    mendSink: () => server.restart(),
    close: async () => {
      await test.close();
      await server.stop();
    },
  };
});
