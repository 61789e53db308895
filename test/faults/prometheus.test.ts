/** The Prometheus exporter behind real brokers: killed workers are shown as down. */
import { createVhost, freePort, parseScrape, startCeleryWorker, startRedis, type Scrape } from "@celery-metrics-exporter/testkit";
import { afterEach, expect, it } from "vitest";
import { Fleet } from "../fleet/fleet.ts";
import type { Environment } from "../fleet/role-process.ts";

const PATIENCE = { timeout: 60_000, interval: 200 };

const releases: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

interface Scene {
  readonly brokers: { readonly redis: string; readonly amqp: string };
  readonly scrape: () => Promise<Scrape>;
}

/** A receiver for each broker. */
async function start(env: Environment): Promise<Scene> {
  const [redis, broker, vhost, port] = await Promise.all([startRedis(), startRedis(), createVhost(), freePort()]);
  releases.push(
    () => redis.stop(),
    () => broker.stop(),
    () => vhost.drop(),
  );
  const brokers = { redis: broker.url, amqp: vhost.url };
  const fleet = await Fleet.start({
    env: { REDIS_URL: redis.url, EXPORTERS: "prometheus", PROMETHEUS_PORT: String(port), ...env },
    processes: { "prometheus-processor": 1 },
  });
  releases.push(() => fleet.stop());
  await Promise.all(Object.values(brokers).map((url) => fleet.add("receiver", { CELERY_BROKER_URL: url })));
  await fleet.whenReady();
  return { brokers, scrape: async () => parseScrape(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()) };
}

it("shows killed workers of every pool, on both brokers, as down, and later not at all", async () => {
  const { brokers, scrape } = await start({ PROMETHEUS_WORKER_TIMEOUT_SECONDS: "5", PROMETHEUS_WORKER_PURGE_SECONDS: "20" });
  const workers = await Promise.all(
    Object.entries(brokers).flatMap(([broker, brokerUrl]) =>
      (["prefork", "threads", "solo"] as const).map((pool) =>
        startCeleryWorker({ brokerUrl, pool, app: "inspected", queues: ["mail"], hostname: `${broker}-${pool}@host` }),
      ),
    ),
  );
  releases.push(() => Promise.all(workers.map((worker) => worker.kill())));
  const up = async (): Promise<(number | undefined)[]> => {
    const series = await scrape();
    return workers.map(({ hostname }) => series.get(`celery_worker_up{hostname="host",worker="${hostname}"}`));
  };
  const all = (value: number | undefined): unknown[] => workers.map(() => value);
  await expect.poll(up, PATIENCE).toEqual(all(1));
  const killedAt = Date.now();
  await Promise.all(workers.map((worker) => worker.kill()));
  expect(await up()).toEqual(all(1));
  await expect.poll(up, PATIENCE).toEqual(all(0));
  expect(Date.now() - killedAt).toBeGreaterThan(2_500);
  await expect.poll(up, PATIENCE).toEqual(all(undefined));
});
