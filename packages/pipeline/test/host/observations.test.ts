import type { CeleryEvent, Listened, Observation } from "@celery-metrics-exporter/celery";
import { queuesObserved, taskSent, taskStarted, workerHeartbeat, workersObserved } from "@celery-metrics-exporter/celery/testing";
import { Metrics, PermanentError, TimedOutError, UnavailableError, createLogger } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { eventsStage } from "../../src/host/events-stage.ts";
import type { Host } from "../../src/host/host.ts";
import { DEAD_LETTER_QUEUE, ObservationOutlet, encodeBatch, type Exporter } from "../../src/index.ts";
import { listenedJobId } from "../../src/queue/names.ts";
import { encodeObservations } from "../../src/queue/observations.ts";
import { exporterOf, startHost, type RunningHost } from "../support/host.ts";
import { privateRedis } from "../support/redis.ts";

const PREFIX = "{cme}";
const OBSERVATIONS = [queuesObserved(), workersObserved()];
const redis = privateRedis();
const closers: (() => Promise<unknown>)[] = [];
const exported: CeleryEvent[] = [];
let queue: Queue;
let outlet: ObservationOutlet;

beforeEach(async () => {
  exported.length = 0;
  const options = { redis: redis.producer, prefix: PREFIX, logger: createLogger("monitor", "silent"), metrics: new Metrics() };
  outlet = new ObservationOutlet({ ...options, exporters: [{ name: "sink", healthPort: 0, takes: [], observes: true }] });
  queue = await open("sink");
  closers.push(() => outlet.close());
});
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
  await redis.producer.flushall();
});

async function open(name: string): Promise<Queue> {
  const opened = new Queue(name, { connection: redis.producer, prefix: PREFIX });
  opened.on("error", () => {});
  await opened.waitUntilReady();
  closers.push(() => opened.close());
  return opened;
}

type Observe = NonNullable<Exporter["observe"]>;

async function start(observe: Observe | undefined, env: Record<string, string> = {}): Promise<RunningHost> {
  const definition = exporterOf("sink", () => ({
    export: async (events) => void exported.push(...events),
    ...(observe !== undefined && { observe }),
  }));
  const host = await startHost(definition, { REDIS_URL: redis.url, ...env });
  closers.push(() => host.stop());
  return host;
}

async function isEmpty(): Promise<boolean> {
  const counts = await queue.getJobCounts("wait", "active", "delayed", "completed", "failed");
  return Object.values(counts).every((count) => count === 0);
}

async function untilEmpty(): Promise<void> {
  await vi.waitUntil(isEmpty, { timeout: 20_000, interval: 50 });
}

async function deadLetters(): Promise<unknown[]> {
  const jobs = await (await open(DEAD_LETTER_QUEUE)).getJobs(["wait"], 0, -1, true);
  return jobs.map(({ name }) => name);
}

describe("observations", () => {
  it("are passed to an exporter that observes, beside events", async () => {
    const observed: Observation[][] = [];
    const host = await start(async (observations) => void observed.push([...observations]));
    await queue.add("batch", encodeBatch({ broker: "redis", events: [taskSent()] }));
    await outlet.publish(OBSERVATIONS);
    await untilEmpty();
    expect(observed).toEqual([OBSERVATIONS]);
    expect(exported).toEqual([taskSent()]);
    expect(await host.metric("observations_dropped_total")).toBe(0);
  });

  it("wait for a sink that is unavailable, which the process reports", async () => {
    let isDown = true;
    let tries = 0;
    const host = await start(
      async () => {
        tries += 1;
        if (isDown) throw new UnavailableError("connection refused");
      },
      { PROCESSOR_MAX_TRIES: "1" },
    );
    await outlet.publish(OBSERVATIONS);
    await vi.waitUntil(() => tries >= 3, { timeout: 10_000 });
    expect(host.health.report()).toMatchObject({ ready: false, components: { "sink exporter": "connection refused" } });
    isDown = false;
    await untilEmpty();
    expect(host.health.report().ready).toBe(true);
    expect(await host.metric("observations_dropped_total")).toBe(0);
  });

  it("are dropped and counted if the sink refuses them: no dead letters, nothing held, and events go on", async () => {
    let tries = 0;
    const host = await start(async () => {
      tries += 1;
      throw new PermanentError("no");
    });
    await outlet.publish(OBSERVATIONS);
    await queue.add("batch", encodeBatch({ broker: "redis", events: [taskSent()] }));
    await untilEmpty();
    expect(tries).toBe(1);
    expect(exported).toHaveLength(1);
    expect(await host.metric("observations_dropped_total", { exporter: "sink" })).toBe(2);
    expect(await deadLetters()).toEqual([]);
    expect(host.health.report().ready).toBe(true);
  });

  it.each([
    ["an unknown error", new Error("a bug"), 2],
    ["a timeout", new TimedOutError("too slow"), 3],
  ])("are tried several times after %s, then dropped", async (_, error, most) => {
    let tries = 0;
    const host = await start(
      async () => {
        tries += 1;
        throw error;
      },
      { PROCESSOR_MAX_TRIES: "2" },
    );
    await outlet.publish(OBSERVATIONS);
    await untilEmpty();
    expect(tries).toBe(most);
    expect(await host.metric("observations_dropped_total")).toBe(2);
    expect(await deadLetters()).toEqual([]);
  });

  it("are dropped and counted by an exporter that does not observe", async () => {
    const host = await start(undefined);
    await outlet.publish(OBSERVATIONS);
    await untilEmpty();
    expect(await host.metric("observations_dropped_total")).toBe(2);
  });

  it("go back to their queue if the process exits first", async () => {
    let aborted = false;
    let isCalled = false;
    const host = await start(
      async (_, signal) => {
        isCalled = true;
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        aborted = true;
        throw new Error("aborted");
      },
      { SHUTDOWN_TIMEOUT_SECONDS: "2" },
    );
    await outlet.publish(OBSERVATIONS);
    await vi.waitUntil(() => isCalled, { timeout: 10_000 });
    await host.stop();
    expect(aborted).toBe(true);
    expect(await queue.getJobCounts("wait", "active")).toEqual({ wait: 1, active: 0 });
  });

  it("of a newer release are kept for it; the process says so", async () => {
    const observed: Observation[] = [];
    const host = await start(async (observations) => void observed.push(...observations));
    await queue.add("observations", { v: 102, observations: [] });
    await vi.waitUntil(() => !host.health.report().ready, { timeout: 10_000 });
    expect(await queue.getJobCounts("delayed")).toEqual({ delayed: 1 });
    expect(observed).toEqual([]);
  });

  it("of a newer release that a receiver listens are dropped and counted, because many would wait for it", async () => {
    const observed: Observation[] = [];
    const host = await start(async (observations) => void observed.push(...observations));
    const jobId = listenedJobId("broker", 1_000);
    await queue.add("observations", { v: 102, observations: [] }, { jobId });
    await untilEmpty();
    expect(await host.metric("observations_dropped_total", { exporter: "sink" })).toBe(1);
    expect(host.health.report().ready).toBe(true);
    await queue.add("observations", encodeObservations([report(1_000)]), { jobId });
    await vi.waitUntil(() => observed.length === 1, { timeout: 10_000 });
  });

  it("that nobody can read are a dead letter", async () => {
    await start(() => Promise.resolve());
    await queue.add("observations", { v: 101, observations: "x" });
    await untilEmpty();
    expect(await deadLetters()).toEqual(["payload"]);
  });
});

const report = (until: number): Listened => ({ type: "listened", source: "broker", since: 0, timestamp: until });

const isRefused = (events: readonly CeleryEvent[]): boolean => events.some((event) => "uuid" in event && event.uuid === "refused");

const batch = async (uuid: string, receivedAt: number, others: readonly CeleryEvent[] = []): Promise<void> => {
  const events = [taskSent({ uuid }), ...others];
  await queue.add("batch", encodeBatch({ broker: "redis", receivedAt, events }), { timestamp: receivedAt * 1_000 });
};

const send = async (until: number): Promise<void> => {
  const jobId = listenedJobId("broker", until);
  await queue.add("observations", encodeObservations([report(until)]), { jobId });
  await vi.waitUntil(async () => (await redis.producer.exists(queue.toKey(jobId))) === 0, { timeout: 20_000, interval: 20 });
};

const untilHeld = (): Promise<unknown> => vi.waitUntil(async () => (await queue.getDelayedCount()) === 1, { timeout: 20_000 });

describe("a report that a receiver listened", () => {
  const NOW = Math.floor(Date.now() / 1_000);
  const observed: Observation[] = [];
  let exports: (events: readonly CeleryEvent[]) => Promise<void>;

  beforeEach(async () => {
    observed.length = 0;
    exports = async (events) => void exported.push(...events);
    const definition = exporterOf("sink", () => ({
      export: (events) => exports(events),
      observe: async (observations) => void observed.push(...observations),
    }));
    const host = await startHost(definition, { REDIS_URL: redis.url, PROCESSOR_CONCURRENCY: "3" });
    closers.push(() => host.stop());
  });

  it("waits for the batches before it, which are under way", async () => {
    const stores: (() => void)[] = [];
    exports = async (events) => {
      await new Promise<void>((resolve) => stores.push(resolve));
      exported.push(...events);
    };
    await batch("slow", NOW);
    await vi.waitUntil(() => stores.length === 1, { timeout: 10_000 });
    const sent = send(NOW + 1);
    await vi.waitUntil(async () => (await queue.getActiveCount()) === 2, { timeout: 10_000 });
    expect(observed).toEqual([]);
    stores[0]?.();
    await sent;
    expect(exported).toHaveLength(1);
    expect(observed).toEqual([report(NOW + 1)]);
  });

  it("is left out if such a batch takes long", async () => {
    const stores: (() => void)[] = [];
    exports = () => new Promise<void>((resolve) => stores.push(resolve));
    await batch("hangs", NOW);
    await vi.waitUntil(async () => (await queue.getActiveCount()) === 1, { timeout: 10_000 });
    await send(NOW + 1);
    expect(observed).toEqual([]);
    stores[0]?.();
  });

  describe("beside a batch that is held", () => {
    beforeEach(() => {
      exports = async (events) => {
        if (isRefused(events)) throw new PermanentError("no");
        exported.push(...events);
      };
    });

    it("is left out for a minute if that may be the last with a worker's heartbeat", async () => {
      // The sink takes nothing of this batch.
      await batch("refused", NOW - 30, [workerHeartbeat()]);
      await untilHeld();
      await send(NOW);
      expect(observed).toEqual([]);
      await send(NOW + 31);
      expect(observed).toEqual([report(NOW + 31)]);
    });

    it("is stored if the sink took the worker's heartbeat: what it does not take of tasks says nothing about workers", async () => {
      await batch("refused", NOW - 30, [taskStarted({ uuid: "taken" }), workerHeartbeat()]);
      await untilHeld();
      expect(exported).toContainEqual(workerHeartbeat());
      await send(NOW);
      expect(observed).toEqual([report(NOW)]);
    });

    it("is stored while that is tried again", async () => {
      await batch("refused", NOW - 100, [workerHeartbeat()]);
      await untilHeld();
      let tries = 0;
      const stuck = new Promise<void>((resolve) => closers.push(async () => resolve()));
      exports = () => {
        tries += 1;
        return stuck;
      };
      await vi.waitUntil(() => tries > 0, { timeout: 20_000 });
      await send(NOW);
      expect(observed).toEqual([report(NOW)]);
    });
  });
});

describe("observations that are suspected of having killed their process", () => {
  it("are not split but dropped and counted", async () => {
    let dropped = 0;
    const metrics = { droppedObservations: (count: number) => void (dropped += count) };
    const stage = eventsStage({ name: "sink", metrics } as unknown as Host, { has: () => Promise.resolve(true) });
    const [payload, ...others] = stage.split({ observations: OBSERVATIONS });
    expect(others).toEqual([]);
    const job = stage.decode(JSON.parse(JSON.stringify(payload)));
    expect(job).toEqual({ observations: OBSERVATIONS });
    expect(stage.size(job)).toBe(1);
    await stage.bury(job, "crash", "three times");
    expect(dropped).toBe(2);
  });
});
