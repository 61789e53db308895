/** Senders that make up names, queues, exceptions and hostnames without end: series, keys and memory stay bounded. */
import { parseScrape } from "@celery-metrics-exporter/testkit";
import { liveHeapBytes, taskFailed, taskReceived, taskSent, taskStarted } from "@celery-metrics-exporter/celery/testing";
import { Redis } from "ioredis";
import { expect, it } from "vitest";
import { PrometheusHarness, scrape } from "./prometheus-harness.ts";

const signal = new AbortController().signal;
const BATCHES = 40;
const TASKS_PER_BATCH = 250;
const LIMITS = { PROMETHEUS_MAX_LABEL_SETS: "100", PROMETHEUS_MAX_EXCEPTIONS: "10", PROMETHEUS_MAX_HOSTNAMES: "10" };
/** All label sets, each with its exceptions, and `other` of each. */
const MOST_FIELDS = 101 * (7 + 11 + 48);
/** What a flood of names may leave in the heap, beyond caches of a fixed size that are full after the first half. */
const GROWTH_BYTES = 8e6;

it("counts everything of 10,000 tasks, each with its own name, queue, exception and worker", async () => {
  const harness = await PrometheusHarness.start({ env: { ...LIMITS, PROMETHEUS_HOSTNAME_LABEL: "worker" } });
  const redis = new Redis(harness.redis.url);
  try {
    const processor = await harness.started();
    let next = 0;
    const batch = () =>
      Array.from({ length: TASKS_PER_BATCH }, () => {
        next += 1;
        const [uuid, name, hostname] = [`task-${next}`, `shop.made.up.${next}`, `w${next}@host-${next}`];
        return [
          taskSent({ uuid, name, queue: `queue-${next}` }),
          taskReceived({ uuid, name, hostname }),
          taskStarted({ uuid, hostname }),
          taskFailed({ uuid, hostname, exception: `Error${next}('x')` }),
        ];
      }).flat();
    for (let done = 0; done < BATCHES / 2; done += 1) await processor.exporter.export(batch(), signal);
    const before = liveHeapBytes();
    for (let done = 0; done < BATCHES / 2; done += 1) {
      const events = batch();
      // As after a process died before it could say that it was done.
      for (let times = 0; times < 2; times += 1) await processor.exporter.export(events, signal);
    }
    expect(liveHeapBytes() - before).toBeLessThan(GROWTH_BYTES);

    const all = BATCHES * TASKS_PER_BATCH;
    const series = parseScrape(await scrape(processor.url()));
    const sumOf = (metric: string): number =>
      [...series].reduce((sum, [written, value]) => (written.startsWith(`${metric}{`) ? sum + value : sum), 0);
    for (const kind of ["sent", "received", "started", "failed"]) expect(sumOf(`celery_task_${kind}_total`), kind).toBe(all);
    expect([...series.keys()].filter((written) => written.startsWith("celery_task_sent_total{"))).toHaveLength(101);
    expect(series.get('celery_task_sent_total{hostname="other",name="other",queue_name="other"}')).toBeGreaterThan(0);

    for (const name of ["labels", "exceptions", "hostnames"]) {
      const limit = { labels: 100, exceptions: 10, hostnames: 10 }[name] ?? 0;
      const [key = ""] = await redis.keys(`{cme}:*:${name}`);
      expect(await redis.hlen(key), name).toBe(limit + 1);
      expect(await redis.zcard(`${key}-used`), name).toBe(limit + 1);
    }
    for (const key of await redis.keys("*:counts")) expect(await redis.hlen(key), key).toBeLessThan(MOST_FIELDS);
    const others = (await redis.keys("*")).filter((key) => !key.includes(":task:"));
    expect(others.length).toBeLessThan(40);
    // Every task expires by itself.
    const [task = ""] = await redis.keys("*:task:task-1");
    expect(await redis.ttl(task)).toBeGreaterThan(0);
  } finally {
    redis.disconnect();
    await harness.close();
  }
});
