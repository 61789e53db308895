import { describeExporter, startMortal } from "@celery-metrics-exporter/pipeline/testing";
import { MortalLink, setRedisFull, byTask, parseScrape } from "@celery-metrics-exporter/testkit";
import { PrometheusHarness, scrape } from "./prometheus-harness.ts";

describeExporter("prometheus", async () => {
  const harness = await PrometheusHarness.start({ redisArgs: ["--appendonly", "yes", "--appendfsync", "always"] });
  const processor = await harness.processor();
  return {
    exporter: processor.exporter,
    observe: async () => {
      await processor.idle();
      const series = parseScrape(await scrape(processor.url()));
      // Ages differ from one scrape to the next.
      return {
        ...byTask(series),
        watched: [...series].filter(([name]) => /^celery_(queue_length|active_|worker_|broker_unacked)/.test(name) && !/_age_/.test(name)),
      };
    },
    refuseWrites: () => setRedisFull(harness.redis.url, true),
    allowWrites: () => setRedisFull(harness.redis.url, false),
    mortal: async () => {
      const link = await MortalLink.start(harness.redis.port, "redis");
      return startMortal(await harness.processor({ REDIS_URL: link.inFrontOf(harness.redis.url) }), link);
    },
    breakSink: () => harness.redis.kill(),
    mendSink: () => harness.redis.restart(),
    close: () => harness.close(),
  };
});
