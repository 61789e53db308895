/** A receiver that is down looks like workers that are gone, unless it says when it listens. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";
import { migrate } from "@celery-metrics-exporter/db";
import {
  celeryEnvironment,
  createDatabase,
  createVhost,
  freePort,
  parseScrape,
  requireCeleryPython,
  startCeleryWorker,
  startRedis,
} from "@celery-metrics-exporter/testkit";
import { it } from "vitest";
import { Fleet } from "../fleet/fleet.ts";
import { slowApp } from "./slow-app.ts";

const WORKER = "doomed@host";
/** A silent worker is lost after 30 s. */
const LONGER_THAN_LOST_MS = 45_000;
const PATIENCE = { timeout: 90_000, interval: 500 };
/** It is unknown after 90 s. */
const TIMEOUT_MS = 300_000;

it.concurrent.for(["RabbitMQ", "Redis"])(
  "no worker is lost while the receiver is down, but once it has listened again: %s",
  { timeout: TIMEOUT_MS },
  async (kind, { expect, onTestFinished }) => {
    const releases: (() => Promise<unknown>)[] = [];
    onTestFinished(async () => {
      for (const release of releases.toReversed()) await release();
    });
    const [redis, database, vhost] = await Promise.all([startRedis(), createDatabase(), createVhost()]);
    releases.push(
      () => redis.stop(),
      () => database.drop(),
      () => vhost.drop(),
    );
    await migrate(database.url);
    const brokerUrl = kind === "Redis" ? redis.url : vhost.url;
    const [prometheusPort, webPort] = await Promise.all([freePort(), freePort()]);
    const fleet = await Fleet.start({
      env: {
        CELERY_BROKER_URL: brokerUrl,
        REDIS_URL: redis.url,
        EXPORTERS: "postgres,prometheus",
        DATABASE_URL: database.url,
        PROMETHEUS_PORT: String(prometheusPort),
        PROMETHEUS_WORKER_TIMEOUT_SECONDS: "10",
        WEB_PORT: String(webPort),
      },
      processes: { receiver: 1, "postgres-processor": 1, "prometheus-processor": 1, web: 1 },
    });
    releases.push(() => fleet.stop());
    const app = slowApp();
    const options = { brokerUrl, app: app.name, queues: [app.queue], hostname: WORKER, concurrency: 1 };
    const worker = await startCeleryWorker({ ...options, env: app.env(600) });
    releases.push(() => worker.kill());
    const environment = celeryEnvironment(brokerUrl, app.env(0));
    const { stdout } = await promisify(execFile)(requireCeleryPython(), ["-c", app.send], { env: environment });

    const get = async (path: string): Promise<unknown> => (await fetch(`http://127.0.0.1:${webPort}/api/v1/${path}`)).json();
    const task = async (): Promise<unknown> => {
      const { status, lost } = (await get(`tasks/${stdout.trim()}`)) as Record<string, unknown>;
      return { status, lost };
    };
    const state = async (): Promise<unknown> => {
      const { items } = (await get(`workers?name=${WORKER}`)) as { items: { state: string }[] };
      return items[0]?.state;
    };
    const up = async (): Promise<number | undefined> => {
      const text = await (await fetch(`http://127.0.0.1:${prometheusPort}/metrics`)).text();
      return parseScrape(text).get(`celery_worker_up{hostname="host",worker="${WORKER}"}`);
    };
    const running = { status: "STARTED", lost: false };
    await expect.poll(task, PATIENCE).toEqual(running);
    await expect.poll(up, PATIENCE).toBe(1);
    await sleep(LONGER_THAN_LOST_MS);
    expect([await task(), await state(), await up()], "the receiver has listened for long, and heard it").toEqual([running, "up", 1]);

    await fleet.kill("receiver");
    await worker.kill();
    await sleep(LONGER_THAN_LOST_MS);
    expect([await task(), await up()], "nobody listens").toEqual([running, undefined]);
    await expect.poll(state, PATIENCE).toBe("unknown");
    expect(await task()).toEqual(running);

    await fleet.add("receiver");
    await expect.poll(up, PATIENCE).toBe(0);
    await expect.poll(task, PATIENCE).toEqual({ status: "STARTED", lost: true });
    await expect.poll(state, PATIENCE).toBe("lost");
  },
);
