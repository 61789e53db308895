/** When each counter began, which a restart does not change. */
import { parseScrape } from "@celery-metrics-exporter/testkit";
import { taskFailed, taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import { PrometheusHarness, type Processor, scrape } from "./prometheus-harness.ts";

const signal = new AbortController().signal;
const NEXT_SECOND_MS = 1_100;
const LIFE = [taskSent(), taskReceived(), taskStarted(), taskSucceeded()];

let harness: PrometheusHarness;
beforeEach(async () => {
  harness = await PrometheusHarness.start({ env: { PROMETHEUS_CREATED: "true", PROMETHEUS_FLOWER_METRICS: "true" } });
});
afterEach(() => harness.close());

/** The times, by series. */
async function createdOf(processor: Processor, path = "metrics"): Promise<Record<string, number>> {
  await processor.idle();
  await sleep(NEXT_SECOND_MS);
  const series = parseScrape(await scrape(processor.url().replace(/metrics$/, path)));
  return Object.fromEntries([...series].filter(([name]) => /_created\{/.test(name)));
}

it("is shown for every counter and histogram, and survives a restart", async () => {
  const before = Math.floor(Date.now() / 1_000);
  const first = await harness.started();
  await first.exporter.export([...LIFE, taskFailed({ uuid: "other" })], signal);
  const created = await createdOf(first);
  const after = Date.now() / 1_000;
  const kinds = ["received", "rejected", "retried", "revoked", "sent", "started", "succeeded"];
  const labels = `hostname="generic",name="shop.cart.total",queue_name="celery"`;
  expect(Object.keys(created)).toEqual(
    expect.arrayContaining([
      ...kinds.map((kind) => `celery_task_${kind}_created{${labels}}`),
      `celery_task_failed_created{exception="",${labels}}`,
      `celery_task_runtime_created{${labels}}`,
      `celery_task_queue_wait_time_created{${labels}}`,
    ]),
  );
  for (const [series, at] of Object.entries(created)) {
    expect(at, series).toBeGreaterThanOrEqual(before);
    expect(at, series).toBeLessThanOrEqual(after);
  }
  await first.close();
  const second = await harness.started();
  await second.exporter.export([...LIFE, taskSent({ uuid: "more" })], signal);
  expect(await createdOf(second)).toEqual(created);
  const flower = await createdOf(second, "flower/metrics");
  const [at] = Object.values(created);
  expect(flower[`flower_events_created{task="shop.cart.total",type="task-failed",worker="generic"}`]).toBe(at);
  expect(flower[`flower_task_runtime_seconds_created{task="shop.cart.total",worker="generic"}`]).toBe(at);
});

it("is in the family in OpenMetrics", async () => {
  const processor = await harness.started();
  await processor.exporter.export(LIFE, signal);
  const text = await scrape(processor.url(), { accept: "application/openmetrics-text" });
  expect(text).not.toMatch(/^# TYPE \S+_created /m);
  expect(text).toMatch(/^celery_task_sent_total\{[^}]*\} 1\.0\ncelery_task_sent_created\{/m);
  expect(text).toMatch(/^celery_task_runtime_sum\{[^}]*\} \S+\ncelery_task_runtime_created\{/m);
});

it("is later after Redis has lost everything", async () => {
  const processor = await harness.started();
  await processor.exporter.export(LIFE, signal);
  const created = await createdOf(processor);
  expect(Object.keys(created).length).toBeGreaterThan(5);
  const redis = new Redis(harness.redis.url);
  await redis.flushall();
  redis.disconnect();
  await createdOf(processor);
  const [, ...rest] = LIFE.map((event) => ({ ...event, uuid: "new" }));
  await processor.exporter.export([taskSent({ uuid: "new" }), ...rest], signal);
  await processor.exporter.export([taskSent({ uuid: "newer" })], signal);
  const anew = await createdOf(processor);
  for (const [series, at] of Object.entries(created)) expect(anew[series], series).toBeGreaterThan(at);
});

it("is not shown unless it is switched on", async () => {
  const processor = await harness.started({ PROMETHEUS_CREATED: "false" });
  await processor.exporter.export(LIFE, signal);
  expect(await createdOf(processor)).toEqual({});
});
