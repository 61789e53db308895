import {
  queuesObserved,
  taskReceived,
  taskSent,
  taskStarted,
  taskSucceeded,
  workerHeartbeat,
} from "@celery-metrics-exporter/celery/testing";
import { TASK_EVENT_TYPES } from "@celery-metrics-exporter/celery";
import { Metrics, UnavailableError, createLogger } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it, vi } from "vitest";
import { EXPORTERS, Fanout, ObservationOutlet, decodeBatch, type EventBatch, type FanoutOptions } from "../../src/index.ts";
import { decodeObservations } from "../../src/queue/observations.ts";
import { privateRedis } from "../support/redis.ts";
import { shopEvents } from "../support/shop-events.ts";

const PREFIX = "{cme}";
const redis = privateRedis();
const closers: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
  await redis.producer.config("SET", "maxmemory", "0");
  await redis.producer.flushall();
});

async function startFanout(options: Partial<FanoutOptions> = {}): Promise<{ fanout: Fanout; metrics: Metrics }> {
  const metrics = new Metrics();
  const fanout = new Fanout({
    redis: redis.producer,
    prefix: PREFIX,
    exporters: EXPORTERS,
    whenFull: "hold",
    highWaterEvents: 2_000_000,
    logger: createLogger("receiver", "silent"),
    metrics,
    ...options,
  });
  closers.push(() => fanout.close());
  await fanout.start();
  return { fanout, metrics };
}

function queueOf(name: string): Queue {
  const queue = new Queue(name, { connection: redis.producer, prefix: PREFIX });
  queue.on("error", () => {});
  closers.push(() => queue.close());
  return queue;
}

async function batchesIn(name: string): Promise<EventBatch[]> {
  const jobs = await queueOf(name).getJobs(["wait"], 0, -1, true);
  return jobs.map((job) => decodeBatch(job.data));
}

async function usedMemory(): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await redis.producer.info("memory"))?.[1]);
}

async function counterOf(metrics: Metrics, name: string, exporter: string): Promise<number> {
  const metric = await metrics.registry.getSingleMetric(`celery_metrics_exporter_${name}`)?.get();
  return metric?.values.find(({ labels }) => labels["exporter"] === exporter)?.value ?? 0;
}

const SOURCE = "amqp://broker:5672, queue events";

/** As registered, but one of them takes no events of workers. */
const choosy = EXPORTERS.map((exporter) => (exporter.name === "postgres" ? { ...exporter, takes: TASK_EVENT_TYPES } : exporter));

const reportedToDatadog = async () =>
  (await queueOf("datadog").getJobs(["wait"], 0, -1, true))
    .filter(({ name }) => name === "observations")
    .map(({ data }) => data as unknown);

describe("the fan-out", () => {
  it("counts shed events from 0, for each exporter", async () => {
    const { metrics } = await startFanout();
    const text = await metrics.registry.metrics();
    for (const exporter of ["datadog", "postgres"]) expect(text).toContain(`events_shed_total{exporter="${exporter}"} 0\n`);
  });

  it("puts one job per batch on every exporter's queue", async () => {
    const { fanout, metrics } = await startFanout();
    const events = [taskSent(), taskStarted(), taskSucceeded()];
    await fanout.enqueue({ broker: "redis", events });
    expect(await batchesIn("postgres")).toEqual([{ broker: "redis", events }]);
    expect(await batchesIn("datadog")).toHaveLength(1);
    expect(await counterOf(metrics, "events_enqueued_total", "postgres")).toBe(3);
  });

  describe("reports until when a receiver listened", () => {
    it("to each exporter that observes, behind the batches, and once for each source while nobody reads it", async () => {
      const silent = EXPORTERS.map((exporter) => (exporter.name === "postgres" ? { ...exporter, observes: false } : exporter));
      const { fanout } = await startFanout({ exporters: silent });
      await fanout.enqueue({ broker: "redis", events: [taskStarted()] });
      await fanout.reportListened(SOURCE, { since: 1_000, until: 1_205 });
      await fanout.reportListened(SOURCE, { since: 1_000, until: 1_210 });
      const jobs = await queueOf("datadog").getJobs(["wait"], 0, -1, true);
      expect(jobs.map(({ name }) => name)).toEqual(["batch", "observations"]);
      expect(jobs[1]?.data).toMatchObject({ observations: [{ type: "listened", source: SOURCE, since: 1_000, timestamp: 1_205 }] });
      expect(await batchesIn("postgres")).toHaveLength(1);
      await jobs[1]?.remove();
      await fanout.reportListened(SOURCE, { since: 1_000, until: 1_215 });
      expect(await queueOf("datadog").getWaitingCount()).toBe(2);
      await fanout.reportListened("redis://another:6379/0", { since: 1_000, until: 1_215 });
      expect(await queueOf("datadog").getWaitingCount()).toBe(3);
    });

    it("although the job of an earlier report lies in none of BullMQ's lists", async () => {
      const { fanout } = await startFanout();
      const queue = queueOf("datadog");
      await fanout.reportListened(SOURCE, { since: 1_000, until: 1_205 });
      await redis.producer.del(queue.toKey("wait"));
      await fanout.reportListened(SOURCE, { since: 1_000, until: 1_210 });
      expect(await queue.getWaitingCount()).toBe(0);
      await fanout.reportListened(SOURCE, { since: 1_000, until: 1_505 });
      expect(await queue.getWaitingCount()).toBe(1);
    });

    it("by a text of at most 200 characters, which tells sources apart", async () => {
      const { fanout } = await startFanout();
      const sources = ["x", "y"].map((end) => `amqp://broker/${"shop".repeat(100)}${end}`);
      for (const source of sources) await fanout.reportListened(source, { since: 1_000, until: 1_205 });
      const names = (await reportedToDatadog()).flatMap((data) =>
        decodeObservations(data).map((each) => each.type === "listened" && each.source),
      );
      expect(new Set(names).size).toBe(2);
      for (const name of names) expect(name).toHaveLength(200);
    });

    it("in jobs that are not counted as batches", async () => {
      const { fanout, metrics } = await startFanout();
      await fanout.enqueue({ broker: "redis", events: Array.from({ length: 100 }, (_, index) => taskStarted({ uuid: `task-${index}` })) });
      for (const until of [1_000, 1_300, 1_600]) await fanout.reportListened(SOURCE, { since: 0, until });
      expect(await reportedToDatadog()).toHaveLength(3);
      const events = async () =>
        (await metrics.registry.getSingleMetric("celery_metrics_exporter_queue_events")?.get())?.values.find(
          ({ labels }) => labels["exporter"] === "datadog",
        )?.value;
      // The queue is counted every second.
      await expect.poll(events).toBe(100);
      await sleep(1_500);
      expect(await events()).toBe(100);
    });
  });

  it("reports nothing to an exporter whose events are shed, and afterwards the time since", async () => {
    const { fanout, metrics } = await startFanout({ highWaterEvents: 250, whenFull: "shed" });
    const events = Array.from({ length: 100 }, (_, index) => taskStarted({ uuid: `task-${index}` }));
    await expect
      .poll(async () => {
        await fanout.enqueue({ broker: "redis", receivedAt: 2_000, events });
        return counterOf(metrics, "events_shed_total", "postgres");
      })
      .toBeGreaterThan(0);
    const queue = queueOf("postgres");
    const reported = async () =>
      (await queue.getJobs(["wait"])).filter(({ name }) => name === "observations").map(({ data }) => data as unknown);
    await fanout.reportListened(SOURCE, { since: 1_000, until: 2_001 });
    expect(await reported()).toEqual([]);
    await queue.drain();
    await expect
      .poll(async () => {
        await fanout.reportListened(SOURCE, { since: 1_000, until: 2_010 });
        return reported();
      })
      .toHaveLength(1);
    const [{ observations }] = (await reported()) as [{ observations: [{ since: number }] }];
    expect(observations[0].since, "the clock of the receiver counts").toBe(2_000);
  });

  it("reports the time since another receiver shed events, which may have died since", async () => {
    const shedding = await startFanout({ highWaterEvents: 250, whenFull: "shed" });
    const events = Array.from({ length: 100 }, (_, index) => taskStarted({ uuid: `task-${index}` }));
    const shed = (): Promise<number> => counterOf(shedding.metrics, "events_shed_total", "datadog");
    await expect
      .poll(async () => {
        await shedding.fanout.enqueue({ broker: "redis", receivedAt: 2_000, events });
        return shed();
      })
      .toBeGreaterThan(0);
    await queueOf("datadog").drain();
    const { fanout } = await startFanout();
    await fanout.reportListened(SOURCE, { since: 1_000, until: 1_900 });
    expect(await reportedToDatadog()).toEqual([]);
    await fanout.reportListened(SOURCE, { since: 1_000, until: 2_010 });
    expect(await reportedToDatadog()).toMatchObject([{ observations: [{ since: 2_000, timestamp: 2_010 }] }]);
    await queueOf("datadog").drain();
    await fanout.reportListened(SOURCE, { since: 2_100, until: 2_400 });
    expect(await reportedToDatadog()).toMatchObject([{ observations: [{ since: 2_100 }] }]);
  });

  it("cuts a huge batch, such as a message that is a list of 25,000 events, into several jobs", async () => {
    const { fanout, metrics } = await startFanout();
    const events = Array.from({ length: 25_000 }, (_, index) => taskStarted({ uuid: `task-${index}` }));
    await fanout.enqueue({ broker: "redis", events });
    const batches = await batchesIn("postgres");
    expect(batches.flatMap((batch) => batch.events)).toEqual(events);
    expect(Math.max(...batches.map((batch) => batch.events.length))).toBeLessThanOrEqual(10_000);
    expect(await counterOf(metrics, "events_enqueued_total", "postgres")).toBe(25_000);
  });

  it("gives each exporter only what it takes, without the fields it omits", async () => {
    const { fanout } = await startFanout({ exporters: choosy });
    const [received, heartbeat] = [taskReceived(), workerHeartbeat()];
    await fanout.enqueue({ broker: "rabbitmq", events: [received, heartbeat] });
    const { args: _args, kwargs: _kwargs, root_id: _root, ...slim } = received;
    expect(await batchesIn("datadog")).toEqual([{ broker: "rabbitmq", events: [slim, heartbeat] }]);
    expect(await batchesIn("postgres")).toEqual([{ broker: "rabbitmq", events: [received] }]);
  });

  it("stores nothing for an exporter that takes nothing of a batch", async () => {
    const { fanout } = await startFanout({ exporters: choosy });
    await fanout.enqueue({ broker: "redis", events: [workerHeartbeat()] });
    expect(await batchesIn("postgres")).toEqual([]);
    expect(await batchesIn("datadog")).toHaveLength(1);
  });

  it("brings excluded ids to every exporter, even without events", async () => {
    const { fanout } = await startFanout();
    await fanout.enqueue({ broker: "redis", events: [], marked: [{ id: "x", marks: ["-s0"] }] });
    for (const name of ["datadog", "postgres"])
      expect(await batchesIn(name)).toEqual([{ broker: "redis", events: [], marked: [{ id: "x", marks: ["-s0"] }] }]);
  });

  it("knows which types any exporter takes", async () => {
    const { fanout } = await startFanout();
    const types = ["task-retried", "task-sent", "worker-heartbeat", "task-progress"];
    expect(types.filter((type) => fanout.takes(type))).toEqual(["task-retried", "task-sent", "worker-heartbeat"]);
  });

  it("rejects while Redis is away, and takes the same batch when it is back", async () => {
    const { fanout } = await startFanout();
    await redis.server.kill();
    await expect(fanout.enqueue({ broker: "redis", events: [taskSent()] })).rejects.toBeInstanceOf(UnavailableError);
    await redis.server.restart();
    await vi.waitUntil(() => redis.producer.status === "ready", { timeout: 10_000 });
    await fanout.enqueue({ broker: "redis", events: [taskSent()] });
    expect(await batchesIn("postgres")).toHaveLength(1);
  });
});

describe("the high-water mark", () => {
  const events = shopEvents(100);

  it("holds: is full past the mark, keeps storing batches, and is not full when the queue is drained", async () => {
    const { fanout } = await startFanout({ highWaterEvents: 250 });
    for (let batch = 0; batch < 3; batch++) await fanout.enqueue({ broker: "rabbitmq", events });
    expect(fanout.fullBecause()).toBeUndefined();
    await vi.waitUntil(() => fanout.fullBecause() !== undefined, { timeout: 5_000 });
    expect(fanout.fullBecause()).toMatch(/^an exporter queue is full: `(datadog|postgres|prometheus)`/);
    await fanout.enqueue({ broker: "rabbitmq", events });
    expect(await batchesIn("postgres")).toHaveLength(4);
    for (const { name } of EXPORTERS) await queueOf(name).drain();
    await vi.waitUntil(() => fanout.fullBecause() === undefined, { timeout: 5_000 });
  });

  it("sheds: drops and counts only the events for the full queue", async () => {
    const { fanout, metrics } = await startFanout({ highWaterEvents: 250, whenFull: "shed" });
    const datadog = queueOf("datadog");
    for (let batch = 0; batch < 3; batch++) await fanout.enqueue({ broker: "rabbitmq", events });
    await vi.waitFor(
      async () => {
        await datadog.drain();
        await fanout.enqueue({ broker: "rabbitmq", events });
        expect(await counterOf(metrics, "events_shed_total", "postgres")).toBeGreaterThan(0);
      },
      { timeout: 5_000, interval: 200 },
    );
    const stored = (await batchesIn("postgres")).length;
    await datadog.drain();
    await fanout.enqueue({ broker: "rabbitmq", events });
    expect(await batchesIn("postgres")).toHaveLength(stored);
    expect(await batchesIn("datadog")).toHaveLength(1);
    expect(await counterOf(metrics, "events_shed_total", "datadog")).toBe(0);
    expect(fanout.fullBecause()).toBeUndefined();
  });

  it("sheds as long as the queue is full, however much is shed", async () => {
    const { fanout, metrics } = await startFanout({ highWaterEvents: 250, whenFull: "shed" });
    for (let batch = 0; batch < 3; batch++) await fanout.enqueue({ broker: "rabbitmq", events });
    const shed = (): Promise<number> => counterOf(metrics, "events_shed_total", "postgres");
    await vi.waitFor(
      async () => {
        await fanout.enqueue({ broker: "rabbitmq", events });
        expect(await shed()).toBeGreaterThan(0);
      },
      { timeout: 5_000, interval: 200 },
    );
    const stored = (await batchesIn("postgres")).length;
    const until = Date.now() + 3_500;
    // The estimate is renewed each second.
    for (; Date.now() < until; await new Promise((resolve) => setTimeout(resolve, 50)))
      await fanout.enqueue({ broker: "rabbitmq", events });
    expect(await batchesIn("postgres")).toHaveLength(stored);
  });

  it("sheds events, but not the mark of an exclusion", async () => {
    await (await startFanout()).fanout.enqueue({ broker: "rabbitmq", events });
    const { fanout, metrics } = await startFanout({ highWaterEvents: 10, whenFull: "shed" });
    const before = (await batchesIn("postgres")).length;
    await fanout.enqueue({ broker: "rabbitmq", events: [taskSent()] });
    expect(await batchesIn("postgres")).toHaveLength(before);
    await fanout.enqueue({ broker: "rabbitmq", events: [taskSent()], marked: [{ id: "x", marks: ["-s0"] }] });
    expect((await batchesIn("postgres")).slice(before)).toEqual([
      { broker: "rabbitmq", events: [], marked: [{ id: "x", marks: ["-s0"] }] },
    ]);
    expect(await counterOf(metrics, "events_shed_total", "postgres")).toBe(2);
    expect(await counterOf(metrics, "events_enqueued_total", "postgres")).toBe(0);
  });

  it("counts what it sheds once, however often the batch comes again because another queue does not take it", async () => {
    await queueOf("postgres").addBulk(events.map((event) => ({ name: "batch", data: event })));
    const { fanout, metrics } = await startFanout({ highWaterEvents: 10, whenFull: "shed" });
    // Redis refuses to add to it.
    await redis.producer.set("{cme}:datadog:wait", "no list");
    for (let round = 0; round < 3; round++) await expect(fanout.enqueue({ broker: "rabbitmq", events })).rejects.toThrow(UnavailableError);
    expect(await counterOf(metrics, "events_shed_total", "postgres")).toBe(0);
    await redis.producer.del("{cme}:datadog:wait");
    await fanout.enqueue({ broker: "rabbitmq", events });
    const taken: readonly string[] = EXPORTERS.find(({ name }) => name === "postgres")?.takes ?? [];
    const shed = events.filter(({ type }) => taken.includes(type)).length;
    expect(await counterOf(metrics, "events_shed_total", "postgres")).toBe(shed);
  });

  it("counts what is in the queue already when the receiver starts", async () => {
    const first = await startFanout();
    for (let batch = 0; batch < 3; batch++) await first.fanout.enqueue({ broker: "rabbitmq", events });
    const { fanout } = await startFanout({ highWaterEvents: 150 });
    expect(fanout.fullBecause()).toBe("an exporter queue is full: `datadog`; `postgres`; `prometheus`");
  });
});

describe("the memory of Redis", () => {
  it("counts as full before it is used up, so that workers can still take jobs", async () => {
    const { fanout } = await startFanout();
    await redis.producer.config("SET", "maxmemory", String(Math.round((await usedMemory()) / 0.95)));
    await vi.waitUntil(() => fanout.fullBecause() !== undefined, { timeout: 5_000 });
    expect(fanout.fullBecause()).toBe("Redis has used 90 % of its maxmemory");
    await fanout.enqueue({ broker: "redis", events: [taskSent()] });
    expect(await batchesIn("postgres")).toHaveLength(1);
    await redis.producer.config("SET", "maxmemory", "0");
    await vi.waitUntil(() => fanout.fullBecause() === undefined, { timeout: 5_000 });
  });

  it("used up: rejects, counts as full at once, and recovers", async () => {
    const { fanout } = await startFanout();
    await redis.producer.config("SET", "maxmemory", String(Math.round((await usedMemory()) / 2)));
    await expect(fanout.enqueue({ broker: "redis", events: [taskSent()] })).rejects.toBeInstanceOf(UnavailableError);
    expect(fanout.fullBecause()).toMatch(/^Redis /);
    await redis.producer.config("SET", "maxmemory", "0");
    await vi.waitUntil(() => fanout.fullBecause() === undefined, { timeout: 5_000 });
    await fanout.enqueue({ broker: "redis", events: [taskSent()] });
    expect(await batchesIn("postgres")).toHaveLength(1);
  });
});

describe("the estimate of a queue's events at the start", () => {
  it("is not misled by observations, which are next in the queue", async () => {
    const { fanout } = await startFanout();
    for (let batch = 0; batch < 3; batch++) await fanout.enqueue({ broker: "redis", events: Array.from({ length: 50 }, () => taskSent()) });
    const exporters = EXPORTERS.map((exporter) => ({ ...exporter, observes: exporter.name === "postgres" }));
    const options = { redis: redis.producer, prefix: PREFIX, logger: createLogger("monitor", "silent"), metrics: new Metrics() };
    const outlet = new ObservationOutlet({ ...options, exporters });
    closers.push(() => outlet.close());
    for (let job = 0; job < 10; job++) await outlet.publish([queuesObserved()]);
    const { metrics } = await startFanout();
    expect(await queueOf("postgres").getWaitingCount()).toBe(13);
    expect(await counterOf(metrics, "queue_events", "postgres")).toBe(3 * 50);
  });
});

describe("Redis' bytes per queued event", () => {
  it("are few, for shop events in batches of 500", async () => {
    const { fanout } = await startFanout();
    await fanout.enqueue({ broker: "rabbitmq", events: shopEvents(500) });
    const taken = shopEvents(20_000).filter(({ type }) => fanout.takes(type));
    const before = await usedMemory();
    let queued = 0;
    for (let from = 0; from + 500 <= taken.length; from += 500) {
      const events = taken.slice(from, from + 500);
      await fanout.enqueue({ broker: "rabbitmq", events });
      queued += EXPORTERS.length * events.length;
    }
    const bytes = ((await usedMemory()) - before) / queued;
    console.info(`Redis holds ${bytes.toFixed(0)} bytes per queued event (${queued} events in ${EXPORTERS.length} queues)`);
    expect(bytes).toBeGreaterThan(10);
    expect(bytes).toBeLessThanOrEqual(125);
  });
});
