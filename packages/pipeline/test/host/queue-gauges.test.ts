import { Metrics, createLogger } from "@celery-metrics-exporter/runtime";
import { Worker, type Queue } from "bullmq";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { BegunBatches, encodeIds, createSchedule } from "../../src/queue/scheduled-ids.ts";
import { JobList } from "../../src/queue/job-list.ts";
import { openQueue } from "../../src/queue/bullmq.ts";
import { QueueGauges } from "../../src/host/queue-gauges.ts";
import { privateRedis } from "../support/redis.ts";

const redis = privateRedis();
const logger = createLogger("test", "silent");
const HOUR_MS = 3_600_000;
let events: Queue;
let processing: Queue;
let closers: (() => Promise<unknown>)[];

beforeEach(() => {
  const common = { redis: redis.producer, prefix: "{cme}", logger };
  events = openQueue("datadog", common);
  processing = openQueue("datadog-processing", common);
  closers = [() => events.close(), () => processing.close()];
});
afterEach(async () => {
  for (const close of closers.toReversed()) await close();
  await redis.producer.flushall();
});

/** The current values of the gauges. */
async function look(queues = [events, processing]): Promise<{ lag: (queue: string) => Promise<number>; undelivered: number }> {
  const metrics = new Metrics();
  const gauges = new QueueGauges({ queues, redis: redis.producer, metrics, logger });
  await gauges.start();
  gauges.close();
  const lag = async (queue: string): Promise<number> => {
    const metric = await metrics.registry.getSingleMetric("celery_metrics_exporter_queue_lag_seconds")?.get();
    return metric?.values.find(({ labels }) => labels["queue"] === queue)?.value ?? -1;
  };
  return { lag, undelivered: Number(await redis.producer.get("{cme}:datadog:undelivered")) };
}

/** The range of lags for a job of this age, because a busy machine may be late. */
function expectAge(seconds: number, addedSeconds: number): void {
  expect(seconds).toBeGreaterThanOrEqual(addedSeconds);
  expect(seconds).toBeLessThan(addedSeconds + 15);
}

/** A job that was created so long ago. */
async function add(queue: Queue, ageMs: number, delayMs?: number): Promise<void> {
  const due = delayMs === undefined ? {} : { delay: ageMs + delayMs };
  await queue.add("job", encodeIds(["task-1"]), { timestamp: Date.now() - ageMs, ...due });
}

describe("the lag of a queue", () => {
  it("is 0 without jobs, and the age of the oldest that waits", async () => {
    expect(await (await look()).lag("datadog")).toBe(0);
    await add(events, 60_000);
    await add(events, 5_000);
    const { lag } = await look();
    expectAge(await lag("datadog"), 60);
    expect(await lag("datadog-processing")).toBe(0);
  });

  it("counts a job that a worker keeps, such as while the sink is away", async () => {
    await add(events, 120_000);
    // BullMQ does not close a connection that it was given.
    const connection = redis.producer.duplicate({ maxRetriesPerRequest: null });
    const worker = new Worker("datadog", () => new Promise(() => {}), { connection, prefix: "{cme}" });
    worker.on("error", () => {});
    closers.push(() => worker.close(true).then(() => connection.disconnect()));
    await vi.waitUntil(async () => (await events.getActiveCount()) === 1, { timeout: 10_000 });
    await add(events, 1_000);
    expectAge(await (await look()).lag("datadog"), 120);
  });

  it("counts delayed jobs, the first and the last that are due, and reads few of 100,000", async () => {
    const padding = Array.from({ length: 100_000 }, (_, index) => [String((Date.now() + HOUR_MS + index) * 4_096), `p${index}`]);
    for (let from = 0; from < padding.length; from += 10_000) {
      await redis.producer.zadd(processing.toKey("delayed"), ...padding.slice(from, from + 10_000).flat());
    }
    await add(processing, 90_000, 1_000);
    expectAge(await (await look()).lag("datadog-processing"), 90);
    await add(processing, 150_000, 2 * HOUR_MS);
    await redis.producer.config("RESETSTAT");
    expectAge(await (await look()).lag("datadog-processing"), 150);
    const calls = [...(await redis.producer.info("commandstats")).matchAll(/cmdstat_(\w+):calls=(\d+)/g)];
    const read = calls.filter(([, name]) => name !== "info" && name !== "config").reduce((sum, [, , count]) => sum + Number(count), 0);
    expect(read).toBeLessThan(60);
  });

  it("counts the oldest of the held jobs that are still there, and forgets the others", async () => {
    const held = JobList.held(redis.producer, events);
    for (let gone = 0; gone < 250; gone++) await held.add({ id: `gone-${gone}`, timestamp: Date.now() - HOUR_MS - gone });
    await add(events, 1_000);
    await add(events, 300_000);
    const id = await redis.producer.lindex(events.toKey("wait"), 0);
    await held.add({ id: id ?? "", timestamp: Date.now() - 300_000 });
    await held.add({ id: "gone", timestamp: Date.now() - 1_000 });
    // At a place in the queue that the gauges do not read otherwise.
    await add(events, 1_000);
    expectAge(await (await look()).lag("datadog"), 300);
    expect(await redis.producer.zrange(events.toKey("held"), "0", "-1")).toEqual([id]);
  });

  it("counts from the first scheduling if ids are put off repeatedly, and the delay from now", async () => {
    const schedule = createSchedule(() => processing, new BegunBatches(redis.producer, events));
    await add(processing, 200_000, 0);
    let [id = ""] = await redis.producer.zrange(processing.toKey("delayed"), "0", "-1");
    for (let round = 0; round < 3; round++) {
      await schedule(["task-1"], { delayMs: 10_000, putOffBy: { id } });
      await processing.remove(id);
      const [next = "", score] = await redis.producer.zrange(processing.toKey("delayed"), "0", "-1", "WITHSCORES");
      id = next;
      expect(Math.abs(Number(score) / 4_096 - Date.now() - 10_000)).toBeLessThan(5_000);
      expectAge(await (await look()).lag("datadog-processing"), 200);
    }
    await processing.remove(id);
    // Another process has finished it meanwhile.
    await schedule(["task-1"], { delayMs: 10_000, putOffBy: { id } });
    expect(await (await look()).lag("datadog-processing")).toBeLessThan(10);
  });
});

describe("the tasks that are not delivered", () => {
  it("are estimated for the receiver from a few of the jobs", async () => {
    const schedule = createSchedule(() => processing, new BegunBatches(redis.producer, events));
    expect((await look()).undelivered).toBe(0);
    for (let job = 0; job < 200; job++)
      await schedule(
        Array.from({ length: 50 }, (_, index) => `${job}-${index}`),
        { delayMs: HOUR_MS },
      );
    expect((await look()).undelivered).toBe(10_000);
    expect((await look([events])).undelivered).toBe(10_000);
    await processing.drain(true);
    expect((await look()).undelivered).toBe(0);
  });
});
