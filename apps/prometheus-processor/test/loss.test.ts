/** After Redis has lost everything, counting goes on from 0, and every series is shown at once. */
import { byTask, parseScrape } from "@celery-metrics-exporter/testkit";
import { taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { Redis } from "ioredis";
import { expect, it } from "vitest";
import { PrometheusHarness, scrape } from "./prometheus-harness.ts";

const signal = new AbortController().signal;
/** Longer than a snapshot answers scrapes. */
const NEXT_SNAPSHOT_MS = 1_100;

it.each([
  ["scraped in between", true],
  ["not scraped in between", false],
])("shows what comes after a FLUSHALL, %s", async (_, isScraped) => {
  const harness = await PrometheusHarness.start();
  const redis = new Redis(harness.redis.url);
  try {
    const processor = await harness.started();
    const shown = async (): Promise<unknown> => {
      await new Promise((resolve) => setTimeout(resolve, NEXT_SNAPSHOT_MS));
      await processor.idle();
      const { celery_task_runtime_bucket: _buckets, ...metrics } = byTask(parseScrape(await scrape(processor.url())));
      return metrics;
    };
    await processor.exporter.export([taskSent(), taskReceived()], signal);
    expect(await shown()).toMatchObject({ celery_task_received_total: { "shop.cart.total|celery": 1 } });
    await redis.flushall();
    if (isScraped) await shown();
    await processor.exporter.export([taskSent({ uuid: "new" }), taskReceived({ uuid: "new" }), taskStarted()], signal);
    await processor.exporter.export([taskStarted({ uuid: "new" }), taskSucceeded({ uuid: "new" })], signal);
    expect(await shown()).toMatchObject({
      celery_task_sent_total: { "shop.cart.total|celery": 1 },
      celery_task_received_total: { "shop.cart.total|celery": 1 },
      celery_task_succeeded_total: { "shop.cart.total|celery": 1 },
      celery_task_runtime_count: { "shop.cart.total|celery": 1 },
    });
  } finally {
    redis.disconnect();
    await harness.close();
  }
});
