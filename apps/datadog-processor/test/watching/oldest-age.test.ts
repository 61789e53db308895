/** How long the oldest message of each queue has waited. */
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import {
  listened,
  queuesObserved,
  taskReceived,
  taskRetried,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import type { TestExporter } from "@celery-metrics-exporter/pipeline/testing";
import { Health, Lifecycle, connectRedis, createLogger } from "@celery-metrics-exporter/runtime";
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { DatadogHarness } from "../datadog-harness.ts";

const NEVER = new AbortController().signal;
const BEGIN = Math.floor(Date.now() / 1_000) - 1_000;
const A = { uuid: "a" };
const B = { uuid: "b" };
const at = (seconds: number): { timestamp: number } => ({ timestamp: BEGIN + seconds });

let server: RedisServer;
let prefixes = 0;
let harness: DatadogHarness;
beforeAll(async () => {
  server = await startRedis();
});
afterEach(() => harness.close());
afterAll(() => server.stop());

async function start(): Promise<TestExporter> {
  const env = { QUEUE_PREFIX: `{ages-${++prefixes}}`, DATADOG_GAUGE_INTERVAL_MS: "100" };
  harness = await DatadogHarness.start({ redis: server, env });
  const processor = await harness.processor();
  await processor.exporter.start?.();
  await processor.exporter.observe?.([listened()], NEVER);
  return processor;
}

async function deliver({ exporter }: TestExporter, ...batches: readonly (readonly TaskEvent[])[]): Promise<void> {
  for (const batch of batches) await exporter.export(batch, NEVER);
}

/** Since when the oldest message of each queue waits, in whole seconds after `BEGIN`; 0 where none waits. */
async function waitingSince(): Promise<Record<string, number>> {
  const gauges = await harness.gauges();
  const now = Date.now() / 1_000;
  return Object.fromEntries(
    Object.entries(gauges).flatMap(([gauge, age]) => {
      const [, queue] = /^celery\.queue\.oldest_age\{queue:(.*)\}$/.exec(gauge) ?? [];
      return queue === undefined ? [] : [[queue, age === 0 ? 0 : Math.round((now - age - BEGIN) / 10) * 10]];
    }),
  );
}

it("is that of the oldest message of each queue which no worker has received", async () => {
  const processor = await start();
  await deliver(processor, [
    taskSent({ ...A, ...at(100) }),
    taskSent({ ...B, ...at(200) }),
    taskSent({ uuid: "c", ...at(300), queue: "mail" }),
    taskSent({ uuid: "d", ...at(50) }),
    taskReceived({ uuid: "d", ...at(60) }),
  ]);
  expect(await waitingSince()).toEqual({ celery: 100, mail: 300 });
  await deliver(processor, [taskReceived({ ...A, ...at(400) })]);
  expect(await waitingSince()).toEqual({ celery: 200, mail: 300 });
  await deliver(processor, [taskReceived({ ...B, ...at(400) }), taskReceived({ uuid: "c", ...at(400) })]);
  expect(await waitingSince()).toEqual({});
});

it("counts from the ETA, and nothing before it", async () => {
  const processor = await start();
  await deliver(processor, [taskSent({ ...A, ...at(100), eta: BEGIN + 500 }), taskSent({ ...B, ...at(200), eta: BEGIN + 5_000 })]);
  expect(await waitingSince()).toEqual({ celery: 500 });
});

it("is that of a retry, which is a message of its own", async () => {
  const processor = await start();
  const first = [taskSent({ ...A, ...at(100) }), taskReceived({ ...A, ...at(110) }), taskStarted({ ...A, ...at(110) })];
  await deliver(processor, [...first, taskSent({ ...A, ...at(200), retries: 1 }), taskRetried({ ...A, ...at(200) })]);
  expect(await waitingSince()).toEqual({ celery: 200 });
  await deliver(processor, [taskReceived({ ...A, ...at(210), retries: 1 })]);
  expect(await waitingSince()).toEqual({});
});

it("forgets a message that arrives after what a worker said of it, or whose events come again", async () => {
  const processor = await start();
  await deliver(
    processor,
    [taskReceived({ ...A, ...at(110) })],
    [taskSent({ ...A, ...at(100) })],
    [taskStarted({ ...B, ...at(310) }), taskSucceeded({ ...B, ...at(320) })],
    [taskSent({ ...B, ...at(300) })],
    [taskSent({ ...A, ...at(100) })],
  );
  expect(await waitingSince()).toEqual({});
});

it("forgets the messages of a queue that the monitor finds empty", async () => {
  const processor = await start();
  await deliver(processor, [taskSent({ ...A, ...at(100) }), taskSent({ ...B, ...at(990) })]);
  const empty = queuesObserved({ timestamp: BEGIN + 500, queues: [{ name: "celery", messages: 0 }] });
  await processor.exporter.observe?.([{ ...empty, timestamp: Date.now() / 1_000 }], NEVER);
  expect(await waitingSince()).toEqual({ celery: 0 });
  const filled = queuesObserved({ timestamp: Date.now() / 1_000 + 1, queues: [{ name: "celery", messages: 1 }] });
  await deliver(processor, [taskSent({ uuid: "c", ...at(1_000) })]);
  await processor.exporter.observe?.([filled], NEVER);
  expect(await waitingSince()).toEqual({ celery: 1_000 });
});

it("keeps messages of a bounded number of queues, and of others once these have none", async () => {
  const processor = await start();
  const first = Array.from({ length: 1_000 }, (_, index) => taskSent({ uuid: `t${index}`, ...at(100), queue: `q${index}` }));
  await deliver(processor, first, [taskSent({ ...A, ...at(200), queue: "later" }), taskSent({ ...B, ...at(50), queue: "q1" })]);
  const full = await waitingSince();
  expect(Object.keys(full)).toHaveLength(1_000);
  expect(full).toMatchObject({ q0: 100, q1: 50 });
  await deliver(processor, [taskReceived({ uuid: "t0", ...at(300) })]);
  expect(await waitingSince()).not.toHaveProperty("q0");
  await deliver(processor, [taskSent({ uuid: "c", ...at(300), queue: "later" })]);
  expect(await waitingSince()).toMatchObject({ later: 300 });
});

it("keeps a bounded number of messages of a long queue", async () => {
  const processor = await start();
  for (let from = 0; from < 24_000; from += 4_000) {
    const sent = Array.from({ length: 4_000 }, (_, index) => taskSent({ uuid: `t${from + index}`, ...at(100 + (from + index) / 100) }));
    await deliver(processor, sent);
  }
  expect(await waitingSince()).toEqual({ celery: 100 });
  const logger = createLogger("test", "silent");
  const lifecycle = new Lifecycle(logger);
  const common = { url: server.url, startupTimeoutMs: 5_000, logger, lifecycle, health: new Health() };
  const redis = await connectRedis({ ...common, use: "producer", name: "test" });
  try {
    const kept = await redis.zcard(`${harness.env["QUEUE_PREFIX"]}:datadog-metrics:waiting:messages`);
    expect(kept).toBeGreaterThanOrEqual(10_000);
    expect(kept).toBeLessThan(10_000 + 1_000);
  } finally {
    await lifecycle.close();
  }
});
