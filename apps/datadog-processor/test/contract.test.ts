import { describeExporter, startMortal } from "@celery-metrics-exporter/pipeline/testing";
import { MortalLink, setRedisFull } from "@celery-metrics-exporter/testkit";
import { DatadogHarness } from "./datadog-harness.ts";
import { sortedMetrics } from "@celery-metrics-exporter/celery/testing";

describeExporter("datadog", async () => {
  const harness = await DatadogHarness.start({
    redisArgs: ["--appendonly", "yes", "--appendfsync", "always"],
    env: { DATADOG_GRACE_MS: "400" },
  });
  const processor = await harness.processor();
  return {
    exporter: processor.exporter,
    observe: async () => {
      await processor.idle();
      await harness.quiet();
      return { ...sortedMetrics(harness.received()), errors: harness.sink.errors };
    },
    refuseWrites: () => setRedisFull(harness.redis.url, true),
    allowWrites: () => setRedisFull(harness.redis.url, false),
    mortal: async () => {
      const link = await MortalLink.start(harness.redis.port, "redis");
      return startMortal(await harness.processor({ env: { REDIS_URL: link.inFrontOf(harness.redis.url) } }), link);
    },
    breakSink: () => harness.redis.kill(),
    mendSink: () => harness.redis.restart(),
    close: () => harness.close(),
  };
});
