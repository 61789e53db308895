import type { CeleryEvent, Observation } from "@celery-metrics-exporter/celery";
import { queuesObserved, taskSent, workersObserved } from "@celery-metrics-exporter/celery/testing";
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

  it("of a newer release that a receiver listens are dropped, so that later ones get through", async () => {
    const observed: Observation[] = [];
    const host = await start(async (observations) => void observed.push(...observations));
    const jobId = listenedJobId("broker");
    await queue.add("observations", { v: 102, observations: [] }, { jobId });
    await untilEmpty();
    expect(host.health.report().ready).toBe(true);
    const since = Date.now() / 1_000 - 60;
    await queue.add("observations", encodeObservations([{ type: "listened", source: "broker", since, timestamp: since + 60 }]), { jobId });
    await vi.waitUntil(() => observed.length === 1, { timeout: 10_000 });
  });

  it("that nobody can read are a dead letter", async () => {
    await start(() => Promise.resolve());
    await queue.add("observations", { v: 101, observations: "x" });
    await untilEmpty();
    expect(await deadLetters()).toEqual(["payload"]);
  });
});

describe("observations that are suspected of having killed their process", () => {
  it("are not split but dropped and counted", async () => {
    let dropped = 0;
    const metrics = { droppedObservations: (count: number) => void (dropped += count) };
    const stage = eventsStage({ name: "sink", metrics } as unknown as Host);
    const [payload, ...others] = stage.split({ observations: OBSERVATIONS });
    expect(others).toEqual([]);
    const job = stage.decode(JSON.parse(JSON.stringify(payload)));
    expect(job).toEqual({ observations: OBSERVATIONS });
    expect(stage.size(job)).toBe(1);
    await stage.bury(job, "crash", "three times");
    expect(dropped).toBe(2);
  });
});
