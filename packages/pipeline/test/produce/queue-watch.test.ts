import { queuesObserved } from "@celery-metrics-exporter/celery/testing";
import { Metrics, createLogger } from "@celery-metrics-exporter/runtime";
import { type Queue, Worker } from "bullmq";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { LOCK_OPTIONS, openQueue } from "../../src/queue/bullmq.ts";
import { ObservationOutlet } from "../../src/index.ts";
import { QueueGaugesOfReceiver, QueueWatch, type QueueWatchOptions } from "../../src/produce/queue-watch.ts";
import { privateRedis } from "../support/redis.ts";

const redis = privateRedis();
const prefix = "{cme}";
let queue: Queue;
let lines: Record<string, unknown>[];
let now: number;

beforeEach(() => {
  lines = [];
  now = 0;
  queue = openQueue("datadog", { redis: redis.producer, prefix, logger: createLogger("test", "silent") });
});
afterEach(async () => {
  await queue.close();
  await redis.producer.flushall();
});

const write = (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>);

function watchOf(options: Partial<QueueWatchOptions> = {}): QueueWatch {
  const watch = new QueueWatch({
    exporter: "datadog",
    others: ["postgres"],
    queue,
    redis: redis.producer,
    highWaterEvents: 100,
    whenFull: "hold",
    gauges: new QueueGaugesOfReceiver(new Metrics()),
    logger: createLogger("test", "info", { write }),
    now: () => now,
    ...options,
  });
  watch.begin(1);
  return watch;
}

const messages = () => lines.map(({ msg }) => msg);

/** Puts jobs of one event into the queue, or takes them out, until there are so many. */
async function hold(jobs: number): Promise<void> {
  const missing = jobs - (await queue.getWaitingCount());
  if (missing > 0) await queue.addBulk(Array.from({ length: missing }, () => ({ name: "batch", data: {} })));
  for (let index = missing; index < 0; index++) {
    const id = await redis.producer.lindex(queue.toKey("wait"), -1);
    if (id !== null) await queue.remove(id);
  }
}

describe("the high-water mark", () => {
  it("does not flap around the mark: full from it on, until a tenth below", async () => {
    const watch = watchOf();
    const full: boolean[] = [];
    for (const jobs of [99, 100, 99, 101, 91, 90, 89, 99, 100]) {
      await hold(jobs);
      await watch.refresh(true);
      full.push(watch.isFull);
    }
    expect(full).toEqual([false, true, true, true, true, true, false, false, true]);
    expect(messages()).toEqual([
      "exporter queue past its high-water mark",
      "exporter queue below its high-water mark again",
      "exporter queue past its high-water mark",
    ]);
    expect(String(lines[0]?.["advice"])).toMatch(/\/readyz of the datadog-processor.*QUEUE_FULL=shed/);
  });

  it("counts tasks that wait for the sink behind the queue, with four events each", async () => {
    const watch = watchOf();
    await hold(20);
    await redis.producer.set(`${prefix}:datadog:undelivered`, "19");
    await watch.refresh(true);
    expect(watch.isFull).toBe(false);
    await redis.producer.set(`${prefix}:datadog:undelivered`, "20");
    await watch.refresh(true);
    expect(watch.isFull).toBe(true);
    expect(lines[0]).toMatchObject({ events: 20, undeliveredTasks: 20, advice: expect.stringContaining("accepts nothing") as string });
  });
});

it("what a monitor observed does not count as batches", async () => {
  const options = { redis: redis.producer, prefix, logger: createLogger("test", "silent"), metrics: new Metrics() };
  const exporters = [{ name: "datadog", healthPort: 0, takes: [], observes: true }];
  const outlet = new ObservationOutlet({ ...options, exporters });
  const watch = watchOf();
  watch.begin(50);
  await hold(1);
  for (let job = 0; job < 5; job++) await outlet.publish([queuesObserved()]);
  await outlet.close();
  expect(await queue.getWaitingCount()).toBe(6);
  await watch.refresh(true);
  expect(watch.isFull).toBe(false);
  await hold(7);
  await watch.refresh(true);
  expect(watch.isFull).toBe(true);
});

describe("a queue that is fed", () => {
  it("is reported when no worker has been there for a minute, with what to do; and when one is there again", async () => {
    const watch = watchOf({ highWaterEvents: 1_000 });
    await watch.refresh(true);
    await hold(5);
    for (now = 0; now < 60_000; now += 10_000) await watch.refresh(true);
    expect(messages()).toEqual([]);
    for (; now < 300_000; now += 10_000) await watch.refresh(true);
    expect(messages()).toEqual(["no processor works on the queue `datadog`, which only grows"]);
    expect(lines[0]?.["advice"]).toBe("start a datadog-processor, or leave datadog out with EXPORTERS=postgres");
    await hold(1_000);
    await watch.refresh(true);
    expect(lines[1]).toMatchObject({ msg: "exporter queue past its high-water mark", advice: lines[0]?.["advice"] });
    expect(watch.description).toContain("EXPORTERS=postgres");
    await redis.producer.set(`${prefix}:datadog:stalled-check`, "1");
    await watch.refresh(true);
    expect(messages()[2]).toBe("the queue `datadog` has a processor again, or is empty");
  });

  it("is not reported while it is empty, while Redis takes no writes, nor while a worker is busy or its queue is paused", async () => {
    const watch = watchOf();
    for (; now < 120_000; now += 10_000) await watch.refresh(true);
    await hold(1);
    for (; now < 240_000; now += 10_000) await watch.refresh(false);
    const worker = new Worker("datadog", () => new Promise(() => {}), {
      connection: redis.producer.duplicate({ maxRetriesPerRequest: null }),
      prefix,
      ...LOCK_OPTIONS,
    });
    worker.on("error", () => {});
    await worker.waitUntilReady();
    // BullMQ renews its sign itself: it is seen at some time in each interval.
    for (let round = 0; round < 3; round++) {
      await vi.waitUntil(async () => (await redis.producer.exists(queue.toKey("stalled-check"))) === 1, { timeout: 10_000, interval: 50 });
      await watch.refresh(true);
      now += 59_000;
    }
    // A paused queue is meant to grow, and its workers still leave their sign.
    await queue.pause();
    await queue.add("batch", {});
    for (let round = 0; round < 3; round++) {
      await redis.producer.del(queue.toKey("stalled-check"));
      await vi.waitUntil(async () => (await redis.producer.exists(queue.toKey("stalled-check"))) === 1, { timeout: 10_000, interval: 50 });
      await watch.refresh(true);
      now += 59_000;
    }
    await worker.close(true);
    worker.disconnect().catch(() => {});
    expect(messages()).toEqual([]);
  });
});
