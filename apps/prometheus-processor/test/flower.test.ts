/** Flower's names, from the same counts. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { readCorpus, taskReceived, taskRetried, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { checkMetrics, startRedis, type RedisServer, byTask, parseScrape } from "@celery-metrics-exporter/testkit";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { CountTable } from "@celery-metrics-exporter/task-store";
import { HistogramFields, PREFETCH } from "../src/counting/fields.ts";
import { FlowerFamilies } from "../src/exposition/flower-families.ts";
import { PrometheusHarness, scrape, type Processor } from "./prometheus-harness.ts";

const signal = new AbortController().signal;
const WORKER = "w1@host-a";
/** Longer than a snapshot answers scrapes. */
const NEXT_SNAPSHOT_MS = 1_100;

let redis: RedisServer;
let harness: PrometheusHarness;
let prefixes = 0;
beforeAll(async () => {
  redis = await startRedis();
});
afterEach(() => harness.close());
afterAll(() => redis.stop());

async function started(env: Readonly<Record<string, string>> = {}): Promise<Processor> {
  const QUEUE_PREFIX = `{flower-${(prefixes += 1)}}`;
  harness = await PrometheusHarness.start({ redis, env: { QUEUE_PREFIX, PROMETHEUS_FLOWER_METRICS: "true", ...env } });
  return harness.started();
}

function flowerUrl(processor: Processor): string {
  return processor.url().replace(/metrics$/, "flower/metrics");
}

function sum(values: Readonly<Record<string, number>> = {}): number {
  return Object.values(values).reduce((one, other) => one + other, 0);
}

/** The series of Flower, a snapshot later. */
async function shown(processor: Processor): Promise<ReadonlyMap<string, number>> {
  await processor.idle();
  await new Promise((resolve) => setTimeout(resolve, NEXT_SNAPSHOT_MS));
  return parseScrape(await scrape(flowerUrl(processor)));
}

function heartbeat(fields: Partial<CeleryEvent> = {}): CeleryEvent {
  const timestamp = Date.now() / 1_000;
  return { type: "worker-heartbeat", hostname: WORKER, timestamp, freq: 2, active: 3, processed: 9, ...fields } as CeleryEvent;
}

it("is not there unless it is switched on, and only the active process shows it", async () => {
  const processor = await started({ PROMETHEUS_FLOWER_METRICS: "false" });
  expect((await fetch(flowerUrl(processor))).status).toBe(404);
  const active = await harness.processor({ PROMETHEUS_FLOWER_METRICS: "true" });
  await active.exporter.start?.();
  await active.exporter.export([heartbeat()], signal);
  expect(await scrape(processor.url())).toContain("celery_exporter_active 1.0");
  expect(await scrape(flowerUrl(active)), "it is on standby").toBe("");
});

describe.each(["celery-5.2-redis", "celery-5.6-amqp"] as const)("%s", (name) => {
  it("has as many events of each task and type as the counters, and the same run times", async () => {
    const processor = await started();
    await processor.exporter.export(readCorpus(name).events, signal);
    const series = await shown(processor);
    const counted = byTask(parseScrape(await scrape(processor.url())));
    const expected: Record<string, number> = {};
    for (const kind of ["sent", "received", "started", "succeeded", "failed", "revoked", "rejected", "retried"]) {
      for (const [key, count] of Object.entries(counted[`celery_task_${kind}_total`] ?? {})) {
        const [task = ""] = key.split("|");
        const written = `flower_events_total{task="${task}",type="task-${kind}",worker="generic"}`;
        expected[written] = (expected[written] ?? 0) + count;
      }
    }
    const of = (prefix: string): Record<string, number> =>
      Object.fromEntries([...series].filter(([written, value]) => written.startsWith(prefix) && value !== 0));
    expect(of("flower_events_total")).toEqual(expected);
    expect(sum(of("flower_task_runtime_seconds_count"))).toBe(sum(counted["celery_task_runtime_count"]));
    expect(sum(of("flower_task_runtime_seconds_sum"))).toBeCloseTo(sum(counted["celery_task_runtime_sum"]), 4);
    expect(sum(of("flower_task_runtime_seconds_bucket"))).toBeGreaterThan(0);
  });
});

describe("with a label for each worker", () => {
  it("names the worker that each event is of, and the types that have not come yet", async () => {
    const processor = await started({ PROMETHEUS_HOSTNAME_LABEL: "worker" });
    await processor.exporter.export([heartbeat(), taskSent(), taskReceived(), taskStarted(), taskSucceeded()], signal);
    const series = await shown(processor);
    const event = (type: string, worker: string): number | undefined =>
      series.get(`flower_events_total{task="shop.cart.total",type="${type}",worker="${worker}"}`);
    expect(event("task-sent", "generic")).toBe(1);
    for (const type of ["task-received", "task-started", "task-succeeded"]) expect(event(type, WORKER), type).toBe(1);
    for (const type of ["task-failed", "task-retried", "task-revoked", "task-rejected"]) expect(event(type, WORKER), type).toBe(0);
    expect(series.get(`flower_task_runtime_seconds_sum{task="shop.cart.total",worker="${WORKER}"}`)).toBe(0.4375);
    expect(series.get(`flower_task_runtime_seconds_bucket{le="0.5",task="shop.cart.total",worker="${WORKER}"}`)).toBe(1);
    expect(series.get(`flower_worker_online{worker="${WORKER}"}`)).toBe(1);
    expect(series.get(`flower_worker_number_of_currently_executing_tasks{worker="${WORKER}"}`)).toBe(3);
  });

  it("shows what is in a worker's memory, until it starts or the worker is gone", async () => {
    const processor = await started({ PROMETHEUS_HOSTNAME_LABEL: "worker" });
    const ids = Array.from({ length: 5 }, (_, index) => ({ uuid: `task-${index}` }));
    const prefetched = async (): Promise<number | undefined> =>
      (await shown(processor)).get(`flower_worker_prefetched_tasks{task="shop.cart.total",worker="${WORKER}"}`);
    const both = ids.flatMap((id) => [taskSent(id), taskReceived(id)]);
    await processor.exporter.export([heartbeat(), ...both], signal);
    await processor.exporter.export(both, signal);
    expect(await prefetched()).toBe(5);
    await processor.exporter.export([taskStarted(ids[0]), taskRetried(ids[1])], signal);
    expect(await prefetched()).toBe(3);
    await processor.exporter.export([{ type: "worker-offline", hostname: WORKER, timestamp: Date.now() / 1_000 + 1 }], signal);
    expect(await prefetched()).toBe(0);
    const after = await shown(processor);
    expect(after.get(`flower_worker_online{worker="${WORKER}"}`)).toBe(0);
    expect(after.get(`flower_worker_number_of_currently_executing_tasks{worker="${WORKER}"}`)).toBe(0);
  });
});

it("passes promtool's check, with the time at which each series began", async () => {
  const processor = await started({ PROMETHEUS_CREATED: "true", PROMETHEUS_HOSTNAME_LABEL: "worker" });
  await processor.exporter.export([heartbeat(), ...readCorpus("celery-5.6-redis").events], signal);
  await shown(processor);
  await shown(processor);
  const text = await scrape(flowerUrl(processor));
  expect(await checkMetrics(text)).toBe("");
  const names = new Set([...text.matchAll(/^# TYPE (\S+) (\w+)$/gm)].map(([, name, type]) => `${name} ${type}`));
  expect([...names]).toEqual([
    "flower_events_total counter",
    "flower_events_created gauge",
    "flower_task_runtime_seconds histogram",
    "flower_task_runtime_seconds_created gauge",
    "flower_task_prefetch_time_seconds gauge",
    "flower_worker_prefetched_tasks gauge",
    "flower_worker_online gauge",
    "flower_worker_number_of_currently_executing_tasks gauge",
  ]);
  const series = [...parseScrape(text).keys()].map((written) => written.split("{")[0]);
  for (const name of names) expect(series, name).toContain(name.replace(/ histogram$/, "_bucket").split(" ")[0]);
  expect(await checkMetrics(await scrape(processor.url()))).toBe("");
});

it("shows the mean time in memory of the starts of the last minute", () => {
  const runtime = new HistogramFields("t", [1]);
  const flower = new FlowerFamilies({ runtime, hostnameLabel: "worker", workerTimeoutSeconds: 300 });
  const means = (now: number, count: number, microseconds: number): number[] => {
    const shard = { counts: `x.r ${count} x.${PREFETCH.count} ${count} x.${PREFETCH.sum} ${microseconds}`, floors: "" };
    const counts = new CountTable().read([shard], () => true);
    const labels = new Map([["x", ["a", "celery", WORKER]]]);
    const families = flower.families({ counts, labels, exceptions: new Map(), created: new Map(), states: [] }, now);
    return [...(families.find(({ name }) => name === "flower_task_prefetch_time_seconds")?.samples ?? [])].flatMap((sample) =>
      "value" in sample ? [sample.value] : [],
    );
  };
  expect(means(1_000, 10, 50e6), "nothing is known of the time before").toEqual([]);
  expect(means(1_001, 10, 50e6)).toEqual([0]);
  expect(means(1_015, 12, 52e6)).toEqual([1]);
  expect(means(1_030, 14, 58e6)).toEqual([2]);
  expect(means(1_074, 14, 58e6), "since 1,000").toEqual([2]);
  expect(means(1_075, 14, 58e6), "since 1,015").toEqual([3]);
  expect(means(1_135, 14, 58e6)).toEqual([0]);
  expect(means(1_136, 13, 50e6), "Redis lost its last writes").toEqual([0]);
  flower.clear();
  expect(means(1_140, 14, 58e6)).toEqual([]);
});
