/** The monitor makes workers that were started without `-E` send task events. */
import { createLogger, startRoles } from "@celery-metrics-exporter/runtime";
import { createVhost, sendPrioritized, startCeleryWorker, startRedis } from "@celery-metrics-exporter/testkit";
import { monitorRole } from "monitor";
import { receiver } from "receiver";
import { afterEach, expect, it } from "vitest";

const PATIENCE = { timeout: 60_000, interval: 200 };

const releases: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

it.each(["RabbitMQ", "Redis"])("events of their tasks arrive, also of a worker that comes online later: %s", async (kind) => {
  const [redis, vhost] = await Promise.all([startRedis(), createVhost()]);
  releases.push(
    () => redis.stop(),
    () => vhost.drop(),
  );
  const brokerUrl = kind === "Redis" ? `${redis.url}/5` : vhost.url;
  const settings = {
    CELERY_BROKER_URL: brokerUrl,
    REDIS_URL: redis.url,
    EXPORTERS: "prometheus",
    // Within the test, the clock asks no worker after the first time.
    MONITOR_INSPECT_INTERVAL_SECONDS: "3600",
  };
  const logs: string[] = [];
  const logger = createLogger("enable events", "info", { write: (line: string) => void logs.push(line) });
  const receiving = await startRoles([receiver], settings, logger);
  releases.push(() => receiving.stop());
  const received = async (type: string): Promise<number> => {
    const text = await (await fetch(`${receiving.healthUrl}/metrics`)).text();
    return Number(new RegExp(`events_received_total\\{.*type="${type}".*\\} (\\d+)`).exec(text)?.[1] ?? 0);
  };
  const startWorker = async (name: string): Promise<void> => {
    const worker = await startCeleryWorker({ brokerUrl, app: "inspected", queues: [name], hostname: `${name}@host`, pool: "solo" });
    releases.push(() => worker.kill());
  };
  const switchedOn = (): unknown[] =>
    logs.flatMap((line) => (line.includes("switched on the task events") ? [(JSON.parse(line) as { worker: unknown }).worker] : []));

  await startWorker("w1");
  await sendPrioritized(brokerUrl, "w1", [0]);
  // Of the time after the task, as it runs in milliseconds.
  await expect.poll(() => received("worker-heartbeat"), PATIENCE).toBeGreaterThan(2);
  expect(await received("task-succeeded")).toBe(0);

  const monitor = monitorRole(() => () => Promise.resolve());
  const watching = await startRoles([monitor], { ...settings, CELERY_ENABLE_EVENTS: "true" }, logger);
  releases.push(() => watching.stop());
  await expect.poll(switchedOn, PATIENCE).toEqual(["w1@host"]);
  await sendPrioritized(brokerUrl, "w1", [0]);
  await expect.poll(() => received("task-succeeded"), PATIENCE).toBe(1);

  await startWorker("w2");
  // Told once more, the first worker has nothing to switch on.
  await expect.poll(switchedOn, PATIENCE).toEqual(["w1@host", "w2@host"]);
  await sendPrioritized(brokerUrl, "w2", [0]);
  await expect.poll(() => received("task-succeeded"), PATIENCE).toBe(2);
});
