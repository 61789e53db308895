import { queuesObserved, workersObserved } from "@celery-metrics-exporter/celery/testing";
import { Metrics, UnavailableError, createLogger } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";
import { afterEach, describe, expect, it, vi } from "vitest";
import { ObservationOutlet, type ExporterRegistration } from "../../src/index.ts";
import { privateRedis } from "../support/redis.ts";

const PREFIX = "{cme}";
const EXPORTERS: readonly ExporterRegistration[] = [
  { name: "watcher", healthPort: 0, takes: [], observes: true },
  { name: "other", healthPort: 0, takes: [], observes: true },
  { name: "blind", healthPort: 0, takes: [] },
  { name: "unused", healthPort: 0, takes: [], observes: true },
];
const redis = privateRedis();
const closers: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
  await redis.producer.flushall();
});

/** Opening a queue creates it. */
async function queueOf(name: string): Promise<Queue> {
  const queue = new Queue(name, { connection: redis.producer, prefix: PREFIX });
  queue.on("error", () => {});
  closers.push(() => queue.close());
  await queue.waitUntilReady();
  return queue;
}

interface Opened {
  readonly outlet: ObservationOutlet;
  /** How many observations were shed. */
  readonly shed: (exporter: string) => Promise<number>;
}

function openOutlet(): Opened {
  const metrics = new Metrics();
  const logger = createLogger("monitor", "silent");
  const outlet = new ObservationOutlet({ redis: redis.producer, prefix: PREFIX, exporters: EXPORTERS, logger, metrics });
  closers.push(() => outlet.close());
  const shed = async (exporter: string): Promise<number> => {
    const metric = await metrics.registry.getSingleMetric("celery_metrics_exporter_observations_shed_total")?.get();
    return metric?.values.find(({ labels }) => labels["exporter"] === exporter)?.value ?? 0;
  };
  return { outlet, shed };
}

async function waitingIn(queue: Queue): Promise<unknown[]> {
  return (await queue.getJobs(["wait"], 0, -1, true)).map(({ name, data }) => ({ name, data }));
}

const isThere = (name: string): Promise<number> => redis.producer.exists(`${PREFIX}:${name}:meta`);

describe("observations", () => {
  it("are one job for each exporter in use that observes, and create no queue", async () => {
    const [watcher, other, blind] = [await queueOf("watcher"), await queueOf("other"), await queueOf("blind")];
    const observations = [queuesObserved(), workersObserved()];
    await openOutlet().outlet.publish(observations);
    const job = { name: "observations", data: { v: 101, observations } };
    for (const queue of [watcher, other]) expect(await waitingIn(queue)).toEqual([job]);
    expect(await waitingIn(blind)).toEqual([]);
    expect(await isThere("unused")).toBe(0);
  });

  it("reach an exporter that is used later", async () => {
    const { outlet } = openOutlet();
    await outlet.publish([queuesObserved()]);
    const queue = await queueOf("unused");
    await outlet.publish([queuesObserved({ timestamp: 2 })]);
    expect(await waitingIn(queue)).toMatchObject([{ data: { observations: [{ timestamp: 2 }] } }]);
  });

  it("are no job if there are none", async () => {
    const queue = await queueOf("watcher");
    await openOutlet().outlet.publish([]);
    expect(await waitingIn(queue)).toEqual([]);
  });

  it("come before events that wait", async () => {
    const queue = await queueOf("watcher");
    await queue.add("batch", {});
    await openOutlet().outlet.publish([queuesObserved()]);
    expect(await waitingIn(queue)).toMatchObject([{ name: "observations" }, { name: "batch" }]);
  });

  it("never fill a queue, whoever publishes: what is too much is dropped and counted", async () => {
    const queue = await queueOf("watcher");
    const [first, second] = [openOutlet(), openOutlet()];
    for (let job = 0; job < 6; job++) for (const { outlet } of [first, second]) await outlet.publish([queuesObserved(), workersObserved()]);
    expect(await queue.getWaitingCount()).toBe(10);
    expect(await Promise.all([first.shed("watcher"), second.shed("watcher"), first.shed("other")])).toEqual([2, 2, 0]);
  });

  it("are published again as soon as earlier ones are done", async () => {
    const queue = await queueOf("watcher");
    const { outlet, shed } = openOutlet();
    for (let job = 0; job < 10; job++) await outlet.publish([queuesObserved()]);
    const [done] = await queue.getJobs(["wait"], 0, 0, true);
    await done?.remove();
    await outlet.publish([queuesObserved()]);
    expect(await queue.getWaitingCount()).toBe(10);
    expect(await shed("watcher")).toBe(0);
    expect(await redis.producer.zcard(`${PREFIX}:watcher:observed`)).toBe(10);
    await outlet.publish([queuesObserved()]);
    expect(await shed("watcher")).toBe(1);
  });

  it("are refused while Redis is away, and published once it is back", async () => {
    const queue = await queueOf("watcher");
    const { outlet } = openOutlet();
    await redis.server.kill();
    await vi.waitUntil(() => redis.producer.status !== "ready", { timeout: 10_000 });
    await expect(outlet.publish([queuesObserved()])).rejects.toBeInstanceOf(UnavailableError);
    await redis.server.restart();
    await vi.waitUntil(() => redis.producer.status === "ready", { timeout: 10_000 });
    await queueOf("watcher");
    await outlet.publish([queuesObserved()]);
    expect(await queue.getWaitingCount()).toBe(1);
  });
});
