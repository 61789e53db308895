/** What only a worker can tell of itself is known soon after it has started. */
import type { Observation, ObservedWorker } from "@celery-metrics-exporter/celery";
import { createLogger, startRoles } from "@celery-metrics-exporter/runtime";
import { createVhost, startCeleryWorker, startRedis } from "@celery-metrics-exporter/testkit";
import { afterEach, expect, it } from "vitest";
import { monitorRole } from "monitor";
import { receiver } from "receiver";

const PATIENCE = { timeout: 60_000, interval: 200 };
/** Within the test, a worker that starts after the first time is not asked by the clock. */
const NEVER_SECONDS = "3600";

const releases: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

it.each(["RabbitMQ", "Redis"])("the monitor asks a worker that comes online, long before its time: %s", async (kind) => {
  const [redis, vhost] = await Promise.all([startRedis(), createVhost()]);
  releases.push(
    () => redis.stop(),
    () => vhost.drop(),
  );
  const brokerUrl = kind === "Redis" ? `${redis.url}/5` : vhost.url;
  const observations: Observation[] = [];
  const monitor = monitorRole(() => async (published) => void observations.push(...published));
  const running = await startRoles(
    [receiver, monitor],
    {
      CELERY_BROKER_URL: brokerUrl,
      REDIS_URL: redis.url,
      EXPORTERS: "prometheus",
      HEALTH_PORT: "0",
      MONITOR_INSPECT_INTERVAL_SECONDS: NEVER_SECONDS,
    },
    createLogger("new worker", "silent"),
  );
  releases.push(() => running.stop());
  const answers = (): ObservedWorker[][] =>
    observations.flatMap((observation) => (observation.type === "workers-observed" ? [[...observation.workers]] : []));
  await expect.poll(answers, PATIENCE).toEqual([[]]);

  const start = async (hostname: string, concurrency: number): Promise<void> => {
    const worker = await startCeleryWorker({ brokerUrl, app: "inspected", queues: ["mail"], hostname, concurrency });
    releases.push(() => worker.kill());
  };
  await start("w1@host", 3);
  const w1 = { hostname: "w1@host", concurrency: 3, queues: ["mail"] };
  await expect.poll(() => answers().at(-1), PATIENCE).toMatchObject([w1]);
  await start("w2@host", 2);
  await expect.poll(() => answers().at(-1)?.length, PATIENCE).toBe(2);
});
