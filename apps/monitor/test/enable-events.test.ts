/** When the monitor switches on task events. That they then arrive is in `test/e2e/enable-events.test.ts`. */
import { startCeleryWorker, startRedis, type CeleryWorker, type RedisServer } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { startMonitor, type RunningMonitor } from "./running-monitor.ts";

const POLL = { timeout: 30_000 };
const ENABLED = /^celery_metrics_exporter_monitor_events_enabled_total/;
/** Within a test, workers are not asked by the clock after the first time. */
const NEVER_SECONDS = "3600";

let server: RedisServer;
let admin: Redis;
beforeAll(async () => {
  server = await startRedis();
  admin = new Redis(server.url);
});
afterAll(async () => {
  admin?.disconnect();
  await server?.stop();
});
beforeEach(() => admin.flushall());

const releases: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

async function monitor(brokerUrl: string, env: Readonly<Record<string, string>> = {}): Promise<RunningMonitor> {
  const started = await startMonitor({
    REDIS_URL: server.url,
    CELERY_BROKER_URL: brokerUrl,
    CELERY_ENABLE_EVENTS: "true",
    MONITOR_INSPECT_INTERVAL_SECONDS: NEVER_SECONDS,
    ...env,
  });
  releases.push(() => started.stop());
  return started;
}

async function worker(brokerUrl: string, hostname: string, args: readonly string[] = []): Promise<CeleryWorker> {
  const started = await startCeleryWorker({
    brokerUrl,
    app: "inspected",
    queues: [hostname],
    hostname: `${hostname}@host`,
    pool: "solo",
    args,
  });
  releases.push(() => started.kill());
  return started;
}

it("switches them on again after a worker has restarted, although nobody has said that it is online", async () => {
  const url = `${server.url}/5`;
  const first = await worker(url, "w1");
  const { metric } = await monitor(url, { MONITOR_INSPECT_INTERVAL_SECONDS: "1" });
  await expect.poll(() => metric(ENABLED), POLL).toBe(1);
  await first.kill();
  await worker(url, "w1");
  await expect.poll(() => metric(ENABLED), POLL).toBe(2);
});

it("leaves a worker with -E alone, and every worker unless it is told to", async () => {
  const url = `${server.url}/5`;
  await worker(url, "w1", ["-E"]);
  const telling = await monitor(url);
  await expect.poll(() => telling.worker("w1@host"), POLL).toBeDefined();
  expect(await telling.metric(ENABLED)).toBe(0);
  await telling.stop();

  await worker(url, "w2");
  const silent = await monitor(url, { CELERY_ENABLE_EVENTS: "false" });
  await expect.poll(() => silent.worker("w2@host"), POLL).toBeDefined();
  await silent.stop();
  const later = await monitor(url);
  await expect.poll(() => later.metric(ENABLED), POLL).toBe(1);
});

it("says that it cannot if it may not ask the workers", async () => {
  const { logs, observations } = await monitor(`${server.url}/5`, { MONITOR_INSPECT: "false", MONITOR_QUEUES: "mail" });
  await expect.poll(() => observations.length, POLL).toBeGreaterThan(0);
  expect(logs.filter((line) => line.includes("CELERY_ENABLE_EVENTS has no effect"))).toHaveLength(1);
});
