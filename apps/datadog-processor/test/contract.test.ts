import { describeExporter, startMortal } from "@celery-metrics-exporter/pipeline/testing";
import { MortalLink, setRedisFull } from "@celery-metrics-exporter/testkit";
import { DatadogHarness } from "./datadog-harness.ts";
import { listened, sortedMetrics } from "@celery-metrics-exporter/celery/testing";

describeExporter("datadog", async () => {
  const harness = await DatadogHarness.start({
    redisArgs: ["--appendonly", "yes", "--appendfsync", "always"],
    env: { DATADOG_GAUGE_INTERVAL_MS: "100" },
  });
  // After a kill, the same job comes to another process.
  const jobOwner = "queue";
  const processor = await harness.processor({ jobOwner });
  // Nothing is reported while a test is still sending and forgetting.
  processor.holdJobs();
  return {
    exporter: processor.exporter,
    observe: async () => {
      processor.releaseJobs();
      await processor.idle();
      await harness.quiet();
      // Otherwise it is not known how many workers are up.
      await processor.exporter.observe?.([listened()], new AbortController().signal);
      const gauges = await harness.gauges();
      return { ...sortedMetrics(harness.received()), gauges: withoutAges(gauges), errors: harness.sink.errors };
    },
    // DogStatsD cannot tell what was sent before: a process that dies before it has marked its tasks as sent leaves them to be sent again.
    hasAll: (contents, whole) => isSentOnceOrTwice(contents as Sent, whole as Sent),
    refuseWrites: () => setRedisFull(harness.redis.url, true),
    allowWrites: () => setRedisFull(harness.redis.url, false),
    mortal: async () => {
      const link = await MortalLink.start(harness.redis.port, "redis");
      return startMortal(await harness.processor({ jobOwner, env: { REDIS_URL: link.inFrontOf(harness.redis.url) } }), link);
    },
    breakSink: () => harness.redis.kill(),
    mendSink: () => harness.redis.restart(),
    close: () => harness.close(),
  };
});

/** Ages differ from one turn to the next. */
function withoutAges(gauges: Readonly<Record<string, number>>): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(gauges).filter(([gauge]) => !gauge.includes("age")));
}

type Sent = ReturnType<typeof sortedMetrics> & { readonly errors: readonly unknown[] };

/** Whether each count and each sample of `whole` was sent once or twice, and no other. */
function isSentOnceOrTwice(contents: Sent, whole: Sent): boolean {
  const [sent, wanted] = [timesSent(contents), timesSent(whole)];
  return (
    sent.size === wanted.size &&
    [...wanted].every(([metric, times]) => {
      const count = sent.get(metric) ?? 0;
      return count >= times && count <= 2 * times;
    })
  );
}

function timesSent({ counts, runs, waits, errors }: Sent): Map<string, number> {
  const times = new Map<string, number>();
  const add = (metric: string, count: number): void => void times.set(metric, (times.get(metric) ?? 0) + count);
  for (const [name, ofTasks] of Object.entries(counts as Readonly<Record<string, Readonly<Record<string, number>>>>)) {
    for (const [task, count] of Object.entries(ofTasks)) add(`${name} ${task}`, count);
  }
  for (const [kind, samples] of Object.entries({ runs, waits, errors })) {
    for (const sample of samples) add(`${kind} ${JSON.stringify(sample)}`, 1);
  }
  return times;
}
