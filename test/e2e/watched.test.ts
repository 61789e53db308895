/** What Prometheus scrapes about the queues and workers of a real broker: through the monitor, Redis and the prometheus-processor. */
import { createLogger, startRoles } from "@celery-metrics-exporter/runtime";
import {
  createVhost,
  freePort,
  parseScrape,
  sendPrioritized,
  startCeleryWorker,
  startRedis,
  type Scrape,
} from "@celery-metrics-exporter/testkit";
import { ALL_ROLES } from "cli";
import { afterEach, describe, expect, it } from "vitest";

const PATIENCE = { timeout: 60_000, interval: 200 };
const PRIORITIES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const ROLES = new Set(["receiver", "monitor", "prometheus-processor"]);

const releases: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

/** Fills the queue `mail`, lets a worker wait for tasks of `idle`, and returns what a scrape shows. */
async function watch(brokerUrl: string, redisUrl: string): Promise<() => Promise<Scrape>> {
  const port = await freePort();
  await sendPrioritized(brokerUrl, "mail", PRIORITIES);
  const worker = await startCeleryWorker({ brokerUrl, app: "inspected", queues: ["idle"], hostname: "w1@host", concurrency: 3 });
  releases.push(() => worker.kill());
  const running = await startRoles(
    ALL_ROLES.filter(({ name }) => ROLES.has(name)),
    {
      CELERY_BROKER_URL: brokerUrl,
      REDIS_URL: redisUrl,
      EXPORTERS: "prometheus",
      HEALTH_PORT: "0",
      MONITOR_QUEUES: "mail",
      MONITOR_INTERVAL_SECONDS: "1",
      MONITOR_INSPECT_INTERVAL_SECONDS: "1",
      PROMETHEUS_PORT: String(port),
      PROMETHEUS_QUEUE_PRIORITIES: "true",
    },
    createLogger("watched", "silent"),
  );
  releases.push(() => running.stop());
  return async () => parseScrape(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text());
}

/** The series of queues, the broker and workers. Of those that are not the same every time, only whether they are there. */
function ofQueuesAndWorkers(scrape: Scrape): Record<string, number | string> {
  const found = [...scrape].filter(([series]) =>
    /^celery_(queue_|active_|broker_|worker_(up|concurrency|prefetch_count|uptime))/.test(series),
  );
  return Object.fromEntries(found.map(([series, value]) => [series, /_uptime_/.test(series) ? "known" : value]));
}

const WORKER = '{hostname="host",worker="w1@host"}';
const OF_BOTH = {
  'celery_queue_length{queue_name="mail"}': 10,
  'celery_queue_length{queue_name="idle"}': 0,
  'celery_active_worker_count{queue_name="mail"}': 0,
  'celery_active_worker_count{queue_name="idle"}': 1,
  'celery_active_process_count{queue_name="mail"}': 0,
  'celery_active_process_count{queue_name="idle"}': 3,
  'celery_queue_oldest_waiting_seconds{queue_name="idle"}': 0,
  [`celery_worker_up${WORKER}`]: 1,
  [`celery_worker_concurrency${WORKER}`]: 3,
  [`celery_worker_prefetch_count${WORKER}`]: 12,
  [`celery_worker_uptime_seconds${WORKER}`]: "known",
};

describe("a scrape shows the queues and workers of", () => {
  it("Redis, with priorities", async () => {
    const redis = await startRedis();
    releases.push(() => redis.stop());
    const scrape = await watch(`${redis.url}/5`, redis.url);
    await expect
      .poll(async () => ofQueuesAndWorkers(await scrape()), PATIENCE)
      .toEqual({
        ...OF_BOTH,
        // By the four lists of Celery's default `priority_steps`.
        'celery_queue_length_by_priority{priority="0",queue_name="mail"}': 3,
        'celery_queue_length_by_priority{priority="3",queue_name="mail"}': 3,
        'celery_queue_length_by_priority{priority="6",queue_name="mail"}': 3,
        'celery_queue_length_by_priority{priority="9",queue_name="mail"}': 1,
        'celery_queue_length_by_priority{priority="0",queue_name="idle"}': 0,
        celery_broker_unacked: 0,
      });
  });

  it("RabbitMQ", async () => {
    const [redis, vhost] = await Promise.all([startRedis(), createVhost()]);
    releases.push(
      () => redis.stop(),
      () => vhost.drop(),
    );
    const scrape = await watch(vhost.url, redis.url);
    await expect
      .poll(async () => ofQueuesAndWorkers(await scrape()), PATIENCE)
      .toEqual({
        ...OF_BOTH,
        'celery_active_consumer_count{queue_name="mail"}': 0,
        'celery_active_consumer_count{queue_name="idle"}': 1,
      });
  });
});
