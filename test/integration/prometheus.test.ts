/** A real Prometheus scrapes two processors that count a load, are killed and replaced: its queries tell the truth. */
import { setTimeout as sleep } from "node:timers/promises";
import {
  checkMetrics,
  connectPublisher,
  freePort,
  startPrometheus,
  startRedis,
  type PrometheusServer,
  type Publisher,
  type RedisServer,
} from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { documentedRelabelling } from "../dashboards/documented.ts";
import { Fleet } from "../fleet/fleet.ts";
import type { RoleProcess } from "../fleet/role-process.ts";
import { Load, type Truth } from "../load/load.ts";

const EVENTS_PER_SECOND = 800;
/** How long each active processor shows the series before it is killed. The second one shows much of what is counted. */
const TERMS_MS = [2_000, 8_000, 2_000] as const;
const AUTHORIZATION = { authorization: "Bearer secret-token" };
const FINALS = { SUCCESS: "succeeded", FAILURE: "failed", REVOKED: "revoked", REJECTED: "rejected" } as const;
/** The job whose series are those of a processor, because it is not scraped as documented. */
const PER_PROCESSOR = "per-processor";
/** How long values stay as they are once everything is shown. */
const SHOWN_MS = 2_000;
/** By how much `increase` may differ: it extrapolates to both ends of its range, by up to about a scrape each. */
const EXTRAPOLATION = 0.15;

let redis: RedisServer;
let broker: RedisServer;
let fleet: Fleet;
let publisher: Publisher;
let prometheus: PrometheusServer;
let ports: readonly [number, number];
/** By port. */
const processors = new Map<number, RoleProcess>();

beforeAll(async () => {
  [redis, broker] = await Promise.all([startRedis(), startRedis()]);
  ports = [await freePort(), await freePort()];
  fleet = await Fleet.start({
    env: {
      CELERY_BROKER_URL: broker.url,
      REDIS_URL: redis.url,
      EXPORTERS: "prometheus",
      PROMETHEUS_INCOMPLETE_WAIT_MS: "1000",
      PROMETHEUS_BEARER_TOKEN: "secret-token",
      PROMETHEUS_FLOWER_METRICS: "true",
      PROMETHEUS_CREATED: "true",
    },
    processes: { receiver: 1 },
  });
  for (const port of ports) await add(port);
  await fleet.whenReady();
  publisher = await connectPublisher(broker.url);
  const scrapeOf = (job: string): object => ({
    job_name: job,
    authorization: { credentials: "secret-token" },
    static_configs: [{ targets: ports.map((port) => `127.0.0.1:${port}`) }],
  });
  prometheus = await startPrometheus({
    scrapes: [{ ...scrapeOf("celery"), metric_relabel_configs: documentedRelabelling() }, scrapeOf(PER_PROCESSOR)],
  });
});
afterAll(async () => {
  await publisher?.close();
  await fleet?.stop();
  await Promise.all([prometheus?.stop(), redis?.stop(), broker?.stop()]);
});

async function add(port: number): Promise<void> {
  processors.set(port, await fleet.add("prometheus-processor", { PROMETHEUS_PORT: String(port) }));
}

/** The port of the process that shows the series; 0 if none does. */
async function activePort(): Promise<number> {
  const found = await Promise.all(
    ports.map(async (port) => {
      const text = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: AUTHORIZATION })
        .then((answer) => answer.text())
        .catch(() => "");
      return /^celery_exporter_active 1/m.test(text) ? [port] : [];
    }),
  );
  return found.flat()[0] ?? 0;
}

/** What the process shows that shows the most: others may be on standby. */
async function scrape(accept: string, path = "metrics"): Promise<string> {
  const headers = { ...AUTHORIZATION, accept };
  const texts = await Promise.all(ports.map(async (port) => (await fetch(`http://127.0.0.1:${port}/${path}`, { headers })).text()));
  return texts.toSorted((a, b) => b.length - a.length)[0] ?? "";
}

/** The series as they are scraped with the documented settings. */
function series(metric: string): string {
  return `${metric}{job="celery"}`;
}

/** The sum over all series. */
async function shown(metric: string): Promise<number | undefined> {
  const [sum] = await prometheus.query(`sum(${series(`celery_task_${metric}`)})`);
  return sum?.value;
}

/** The sum of what each series increased by. */
async function increased(range: string, at: number): Promise<number> {
  const [increase] = await prometheus.query(`sum(increase(${range}))`, at);
  return increase?.value ?? 0;
}

/** How many tasks ended in each way. */
function endsOf({ tasks }: Truth): Record<string, number> {
  return Object.fromEntries(
    Object.entries(FINALS).map(([status, kind]) => [`${kind}_total`, tasks.filter((task) => task.status === status).length]),
  );
}

/** Waits until so many ends are shown, and then for a scrape after that. */
async function untilShown(ends: Readonly<Record<string, number>>): Promise<void> {
  for (const [metric, count] of Object.entries(ends)) {
    await expect.poll(() => shown(metric), { timeout: 30_000, interval: 300, message: metric }).toBe(count);
  }
  await sleep(SHOWN_MS + 500);
}

describe("with a load, kills and a loss of everything", () => {
  it("counts exactly, without a reset, and from 0 after a FLUSHALL", async () => {
    const before = Load.start({ publisher, eventsPerSecond: EVENTS_PER_SECOND, seed: 1 });
    await sleep(2_500);
    const first = endsOf(await before.stop());
    await untilShown(first);

    const from = Date.now();
    const load = Load.start({ publisher, eventsPerSecond: EVENTS_PER_SECOND, seed: 2 });
    const active = [await activePort()];
    for (const round of [0, 1] as const) {
      await sleep(TERMS_MS[round]);
      await fleet.kill("prometheus-processor", processors.get(active[round] ?? 0));
      await expect.poll(activePort, { timeout: 30_000, interval: 100 }).not.toBe(0);
      active.push(await activePort());
      await add(active[round] ?? 0);
    }
    expect(active[1], "the other one takes over").not.toBe(active[0]);
    expect(active[2], "the first one again").toBe(active[0]);
    await sleep(TERMS_MS[2]);
    const second = endsOf(await load.stop());
    await untilShown(Object.fromEntries(Object.entries(second).map(([metric, count]) => [metric, count + (first[metric] ?? 0)])));

    const to = Date.now();
    const range = `[${Math.round((to - from) / 1_000)}s]`;
    for (const [metric, count] of Object.entries(second)) {
      const increase = await increased(series(`celery_task_${metric}`) + range, to);
      expect(Math.abs(increase / count - 1), `${metric}: ${increase} instead of ${count}`).toBeLessThan(EXTRAPOLATION);
    }
    // The first processor was active twice. The second time, its own series also contain what the other one had counted meanwhile.
    const [ofFirst, ofOther] = await Promise.all(
      active
        .slice(0, 2)
        .map((port) => increased(`celery_task_succeeded_total{job="${PER_PROCESSOR}",instance="127.0.0.1:${port}"}${range}`, to)),
    );
    expect(ofFirst).toBeGreaterThan((1 - EXTRAPOLATION) * (second["succeeded_total"] ?? 0));
    expect(ofOther).toBeGreaterThan(EVENTS_PER_SECOND / 20);
    const names = (await prometheus.query(`count by (__name__) ({__name__=~"celery_task_.*", job="celery"})`, to)).map(
      ({ metric }) => metric["__name__"],
    );
    expect(names).toEqual(
      expect.arrayContaining(["celery_task_runtime_sum", "celery_task_queue_wait_time_bucket", "celery_task_sent_total"]),
    );
    for (const name of names.filter((each) => /_(total|bucket|count|sum)$/.test(each ?? "")))
      expect(await prometheus.query(`sum(resets(${series(name ?? "")}${range})) > 0`, to), name).toEqual([]);

    const client = new Redis(redis.url);
    await client.flushall();
    await client.quit();
    await sleep(2_500);
    const after = Load.start({ publisher, eventsPerSecond: EVENTS_PER_SECOND, seed: 3 });
    await sleep(2_000);
    const third = endsOf(await after.stop());
    await untilShown(third);

    const end = Date.now();
    // It begins while everything still has its old value.
    const lossRange = `[${Math.round((end - to + SHOWN_MS) / 1_000)}s:1s]`;
    for (const [metric, count] of Object.entries(third)) {
      const counter = `sum(${series(`celery_task_${metric}`)})${lossRange}`;
      const [[resets], [increase]] = await Promise.all([
        prometheus.query(`resets(${counter})`, end),
        prometheus.query(`increase(${counter})`, end),
      ]);
      expect(resets?.value, `resets of ${metric}`).toBe(1);
      expect(Math.abs((increase?.value ?? 0) / count - 1), `${metric}: ${increase?.value} instead of ${count}`).toBeLessThan(
        2 * EXTRAPOLATION,
      );
    }
    for (const name of names.filter((each) => /_(total|bucket|count|sum)$/.test(each ?? ""))) {
      const counter = `${series(name ?? "")}${lossRange}`;
      expect(await prometheus.query(`resets(${counter}) > 1 or increase(${counter}) < 0`, end), name).toEqual([]);
    }
  });

  it("shows promtool nothing to complain of", async () => {
    const text = await scrape("text/plain");
    expect(text).toContain("celery_task_succeeded_total{");
    expect(await checkMetrics(text)).toBe("");
    const flower = await scrape("text/plain", "flower/metrics");
    expect(flower).toMatch(/^flower_events_total\{.*type="task-succeeded".*\} [1-9]/m);
    expect(await checkMetrics(flower)).toBe("");
  });

  it("shows Prometheus everything as OpenMetrics, which it prefers", async () => {
    const lines = (await scrape("application/openmetrics-text")).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    const [scraped] = await prometheus.query('max(scrape_samples_scraped{job="celery"})');
    expect(scraped?.value).toBe(lines.length);
    const up = await prometheus.query('up{job="celery"}');
    expect(new Map(up.map(({ metric, value }) => [metric["instance"], value]))).toEqual(
      new Map(ports.map((port) => [`127.0.0.1:${port}`, 1])),
    );
    const active = await prometheus.query('celery_exporter_active{job="celery"}');
    expect(new Set(active.map(({ value }) => value))).toEqual(new Set([0, 1]));
  });
});
