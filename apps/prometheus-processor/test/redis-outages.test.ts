/** What a scrape gets while Redis hangs, is full, or is replaced: never a wait, never a smaller value, and never a part. */
import { setTimeout as sleep } from "node:timers/promises";
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { taskReceived, taskSent } from "@celery-metrics-exporter/celery/testing";
import { UnavailableError } from "@celery-metrics-exporter/runtime";
import {
  type RedisCluster,
  type RedisServer,
  TcpProxy,
  setRedisFull,
  startRedis,
  startRedisCluster,
  parseScrape,
} from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { type TestContext, describe, it } from "vitest";
import { type Processor, PrometheusHarness } from "./prometheus-harness.ts";

const signal = new AbortController().signal;
/** Longer than a process leads without an answer of Redis, and than a command waits for one. */
const LONG_MS = 6_000;
/** How long a snapshot is shown while a node is missing. */
const STALE_MS = 10_000;
/** A scrape waits for Redis for up to a second. The rest is for a busy machine. */
const MOST_WAITED_MS = 1_800;
const POLL = { timeout: 15_000, interval: 200 };
const RECEIVED = 'celery_task_received_total{hostname="generic",name="shop.cart.total",queue_name="celery"}';
const AGE = "celery_exporter_snapshot_age_seconds";
const ACTIVE = "celery_exporter_active";

/** A worker has received so many tasks. */
function receipts(prefix: string, count: number): CeleryEvent[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${index}`).flatMap((uuid) => [taskSent({ uuid }), taskReceived({ uuid })]);
}

interface Answer {
  readonly status: number;
  readonly waitedMs: number;
  readonly series: ReadonlyMap<string, number>;
}

async function ask(processor: Processor): Promise<Answer> {
  const began = performance.now();
  const response = await fetch(processor.url());
  const text = await response.text();
  return { status: response.status, waitedMs: performance.now() - began, series: response.ok ? parseScrape(text) : new Map() };
}

/** Scrapes for so long. Returns all answers. */
async function askFor(processor: Processor, ms: number): Promise<Answer[]> {
  const answers: Answer[] = [];
  for (const until = performance.now() + ms; performance.now() < until; await sleep(300)) answers.push(await ask(processor));
  return answers;
}

/** In the answers that show anything. `NaN` if one lacks the series. */
const valuesOf = (answers: readonly Answer[], series: string): Set<number> =>
  new Set(answers.filter(({ status }) => status === 200).map((answer) => answer.series.get(series) ?? Number.NaN));
const shown = async (processor: Processor, series = RECEIVED): Promise<number | undefined> => (await ask(processor)).series.get(series);

async function start({ onTestFinished }: TestContext, env: Readonly<Record<string, string>> = {}): Promise<[PrometheusHarness, Redis]> {
  const harness = await PrometheusHarness.start({ env });
  const redis = new Redis(harness.redis.url);
  redis.on("error", () => {});
  onTestFinished(async () => {
    redis.disconnect();
    await harness.close();
  });
  return [harness, redis];
}

async function keysOf(cluster: RedisCluster, node: RedisServer): Promise<string[]> {
  const admin = cluster.admin(node);
  const keys = await admin.keys("*");
  admin.disconnect();
  return keys;
}

/** Tries again while Redis is away, as the queue does. */
async function exported(processor: Processor, events: readonly CeleryEvent[]): Promise<void> {
  for (;;) {
    try {
      await processor.exporter.export(events, signal);
      return;
    } catch (thrown) {
      if (!(thrown instanceof UnavailableError)) throw thrown;
      await sleep(100);
    }
  }
}

describe.concurrent("while Redis", () => {
  it("hangs, the last values and their age are shown at once until another process may show newer ones", async (context) => {
    const { expect } = context;
    const [harness] = await start(context);
    const processor = await harness.started();
    await processor.exporter.export(receipts("before", 3), signal);
    expect(await shown(processor)).toBe(3);
    process.kill(harness.redis.pid, "SIGSTOP");
    try {
      const answers = await askFor(processor, LONG_MS);
      expect(answers[0]?.status).toBe(200);
      expect(answers.at(-1)?.status).toBe(503);
      expect(valuesOf(answers, RECEIVED)).toEqual(new Set([3]));
      expect(valuesOf(answers, ACTIVE)).toEqual(new Set([1]));
      expect(Math.max(...answers.map(({ waitedMs }) => waitedMs))).toBeLessThan(MOST_WAITED_MS);
      expect(Math.max(...valuesOf(answers, AGE))).toBeGreaterThan(2);
    } finally {
      process.kill(harness.redis.pid, "SIGCONT");
    }
    await exported(processor, receipts("after", 2));
    await expect.poll(() => shown(processor), POLL).toBe(5);
    expect(await shown(processor, AGE)).toBeLessThan(1.5);
  });

  it("is full, new events wait and scrapes go on", async (context) => {
    const { expect } = context;
    const [harness] = await start(context);
    const processor = await harness.started();
    await processor.exporter.export(receipts("before", 3), signal);
    expect(await shown(processor)).toBe(3);
    await setRedisFull(harness.redis.url, true);
    await expect(processor.exporter.export(receipts("after", 2), signal)).rejects.toThrow(/OOM/);
    const answers = await askFor(processor, LONG_MS);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(valuesOf(answers, RECEIVED)).toEqual(new Set([3]));
    expect(valuesOf(answers, ACTIVE)).toEqual(new Set([1]));
    expect(Math.max(...answers.map(({ series }) => series.get(AGE) ?? Infinity))).toBeLessThan(MOST_WAITED_MS / 1_000);
    // Another process takes over as at any other time, and shows the counts too.
    const other = await harness.started();
    await processor.close();
    await expect.poll(() => shown(other), POLL).toBe(3);
    await setRedisFull(harness.redis.url, false);
    await exported(other, receipts("after", 2));
    await expect.poll(() => shown(other), POLL).toBe(5);
  });

  it("is a cluster of which one node hangs, the last values are shown for a while, and never those of the others alone", async (context) => {
    const { expect } = context;
    // Otherwise it calls the node failed, and answers nothing at all.
    const cluster = await startRedisCluster({ nodeTimeoutMs: 60_000 });
    context.onTestFinished(() => cluster.stop());
    const [one] = cluster.masters;
    const harness = await PrometheusHarness.start({ ...(one && { redis: one }), env: { REDIS_URL: cluster.url }, staleMs: STALE_MS });
    context.onTestFinished(() => harness.close());
    const processor = await harness.started();
    await processor.exporter.export(receipts("before", 60), signal);
    expect(await shown(processor)).toBe(60);
    // Another one than that of the leadership.
    const keys = await Promise.all(cluster.masters.map((master) => keysOf(cluster, master)));
    const index = keys.findIndex((ofNode) => !ofNode.some((key) => key.startsWith("{cme}:")));
    expect(keys[index]).not.toHaveLength(0);
    const pid = cluster.masters[index]?.pid ?? 0;
    process.kill(pid, "SIGSTOP");
    try {
      const answers = await askFor(processor, LONG_MS);
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
      expect(valuesOf(answers, RECEIVED)).toEqual(new Set([60]));
      expect(Math.max(...valuesOf(answers, AGE))).toBeGreaterThan(LONG_MS / 2_000);
      answers.push(...(await askFor(processor, STALE_MS - LONG_MS + 2_000)));
      expect(answers.at(-1)?.status).toBe(503);
      expect(Math.max(...valuesOf(answers, AGE))).toBeLessThanOrEqual(STALE_MS / 1_000);
      expect(valuesOf(answers, RECEIVED)).toEqual(new Set([60]));
      expect(Math.max(...answers.map(({ waitedMs }) => waitedMs))).toBeLessThan(MOST_WAITED_MS);
    } finally {
      process.kill(pid, "SIGCONT");
    }
    await exported(processor, receipts("after", 20));
    await expect.poll(() => shown(processor), POLL).toBe(80);
  });

  it("pauses its clients, nothing is shown late or counted twice", async (context) => {
    const { expect } = context;
    const [harness, redis] = await start(context);
    const [processor, other] = [await harness.started(), await harness.processor()];
    await processor.exporter.export(receipts("before", 3), signal);
    expect(await shown(processor)).toBe(3);
    await redis.client("PAUSE", 5_500, "ALL");
    // Longer than a command waits for its answer: it is sent again, and Redis may run both.
    const [answers] = await Promise.all([
      askFor(processor, 5_500),
      exported(processor, receipts("after", 2)),
      exported(other, [...receipts("after", 2), ...receipts("before", 3)]),
    ]);
    expect(valuesOf(answers, RECEIVED)).toEqual(new Set([3]));
    expect(valuesOf(answers, ACTIVE)).toEqual(new Set([1]));
    expect(Math.max(...answers.map(({ waitedMs }) => waitedMs))).toBeLessThan(MOST_WAITED_MS);
    await expect.poll(() => shown(processor), POLL).toBe(5);
  });

  it("is replaced by a replica without its last writes, no value falls", async (context) => {
    const { expect } = context;
    const [primary, replica] = await Promise.all([startRedis({ args: ["--repl-diskless-sync-delay", "0"] }), startRedis()]);
    const proxy = await TcpProxy.start(primary.port);
    const admin = new Redis(replica.url);
    context.onTestFinished(async () => {
      admin.disconnect();
      await proxy.stop();
      await Promise.all([primary.stop(), replica.stop()]);
    });
    const harness = await PrometheusHarness.start({ redis: primary, env: { REDIS_URL: `redis://127.0.0.1:${proxy.port}` } });
    context.onTestFinished(() => harness.close());
    const processor = await harness.started();
    await processor.exporter.export(receipts("kept", 3), signal);
    expect(await shown(processor)).toBe(3);
    await admin.replicaof("127.0.0.1", primary.port);
    await expect.poll(() => admin.keys("*:counts"), POLL).not.toHaveLength(0);
    await admin.replicaof("NO", "ONE");
    await processor.exporter.export(receipts("lost", 4), signal);
    await expect.poll(() => shown(processor), POLL).toBe(7);

    proxy.freeze();
    const answers = await askFor(processor, LONG_MS);
    proxy.thaw();
    proxy.redirect(replica.port);
    // At first it knows three tasks, then five, which is still less than what was shown.
    await exported(processor, receipts("new", 2));
    await expect.poll(() => shown(processor, AGE), POLL).toBeLessThan(1.5);
    answers.push(...(await askFor(processor, 2_500)));
    expect(valuesOf(answers, RECEIVED)).toEqual(new Set([7]));
    await exported(processor, receipts("more", 3));
    await expect.poll(() => shown(processor), POLL).toBe(8);
  });
});
