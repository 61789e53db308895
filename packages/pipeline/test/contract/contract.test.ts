/** The contract suite, on an exporter simple enough to be right. */
import { MortalLink, setRedisFull, startRedis } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { createTestExporter, describeExporter, startMortal } from "../../src/testing/index.ts";
import { hashExporter } from "../support/fixture-exporter.ts";

describeExporter(
  "an exporter into a Redis hash",
  async () => {
    const server = await startRedis({ args: ["--appendonly", "yes", "--appendfsync", "always"] });
    const test = await createTestExporter(hashExporter(server.url, "events"), { REDIS_URL: server.url });
    return {
      exporter: test.exporter,
      observe: async () => {
        await test.idle();
        const redis = new Redis(server.url);
        const stored = [...(await redis.hkeys("events")), ...(await redis.hvals("events:observed"))].toSorted();
        redis.disconnect();
        return stored;
      },
      breakSink: () => server.kill(),
      mendSink: () => server.restart(),
      refuseWrites: () => setRedisFull(server.url, true),
      allowWrites: () => setRedisFull(server.url, false),
      mortal: async () => {
        const link = await MortalLink.start(server.port, "redis");
        const url = link.inFrontOf(server.url);
        return startMortal(await createTestExporter(hashExporter(url, "events"), { REDIS_URL: url }), link);
      },
      close: async () => {
        await test.close();
        await server.stop();
      },
    };
  },
  { process: "an event is stored by `export`" },
);
