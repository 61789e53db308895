/** The dashboards and alerts that we ship, and celery-exporter's dashboards, on a real Prometheus that scrapes us. */
import { ALL_ROLES } from "cli";
import { EXPORTERS, ObservationOutlet } from "@celery-metrics-exporter/pipeline";
import { Health, Lifecycle, Metrics, connectRedis, createLogger, startRoles } from "@celery-metrics-exporter/runtime";
import {
  connectPublisher,
  freePort,
  promtool,
  startPrometheus,
  startRedis,
  startStatsdSink,
  type PrometheusServer,
  type Publisher,
} from "@celery-metrics-exporter/testkit";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { CELERY_EXPORTER_SERIES, CELERY_EXPORTER_VARIABLES, celeryExporterExpressions } from "../dashboards/celery-exporter.ts";
import { Evaluation } from "../dashboards/evaluation.ts";
import { DATADOG_METRICS, FLOWER_ALERTS, FLOWER_PANELS } from "../dashboards/flower.ts";
import {
  RULES,
  RULE_TESTS,
  grafanaDashboards,
  panelExpressions,
  ruleExpressions,
  variableQueries,
  withoutVariables,
} from "../dashboards/grafana.ts";
import { parseExpression } from "../dashboards/promql.ts";
import { ROOT } from "../invariants/workspace.ts";
import { prepareBurst, publishBurst } from "../load/load.ts";

const PREFIX = "{cme}";
const CLUSTER = { cluster: "c1", namespace: "n1" };
/** The load has tasks of this name with every end. */
const TASK = "shop.charge";
const WORKERS = ["w1@host-a", "w1@host-b"];

/** The last scrape may have failed on a busy machine. */
const PATIENCE = { timeout: 20_000, interval: 1_000 };

const logger = createLogger("test", "silent");
const lifecycle = new Lifecycle(logger);
/** Tasks that succeeded or failed, and events of all kinds. */
const published = { ended: 0, events: 0 };
let prometheus: PrometheusServer;
let evaluation: Evaluation;
let exposedPort: number;

beforeAll(async () => {
  const [redis, sink, port] = await Promise.all([startRedis(), startStatsdSink(), freePort()]);
  exposedPort = port;
  lifecycle.defer("redis", () => redis.stop());
  lifecycle.defer("sink", () => sink.close());
  const start = async (names: readonly string[], settings: Readonly<Record<string, string>>): Promise<string> => {
    const servers = {
      CELERY_BROKER_URL: redis.url,
      REDIS_URL: redis.url,
      DD_AGENT_HOST: "127.0.0.1",
      DD_DOGSTATSD_PORT: String(sink.port),
    };
    const roles = ALL_ROLES.filter(({ name }) => names.includes(name));
    const running = await startRoles(roles, { ...servers, HEALTH_PORT: String(await freePort()), ...settings }, logger);
    lifecycle.defer(names.join(), () => running.stop());
    return new URL(running.healthUrl).host;
  };
  const pipeline = await start(["receiver", "prometheus-processor", "datadog-processor"], {
    QUEUE_PREFIX: PREFIX,
    EXPORTERS: "datadog,prometheus",
    PROMETHEUS_PORT: String(port),
    PROMETHEUS_INCOMPLETE_WAIT_MS: "500",
    PROMETHEUS_QUEUE_PRIORITIES: "true",
    DATADOG_GRACE_MS: "200",
    PROMETHEUS_FLOWER_METRICS: "true",
    PROMETHEUS_CREATED: "true",
  });
  // By itself, because it would find no queues and no workers where the test says that there are some.
  const monitor = await start(["monitor"], { QUEUE_PREFIX: "{cme-monitor}", MONITOR_INTERVAL_SECONDS: "1" });

  prometheus = await startPrometheus({
    scrapes: [
      target("celery", [`127.0.0.1:${port}`]),
      target("celery-metrics-exporter", [pipeline, monitor]),
      { ...target("flower", [`127.0.0.1:${port}`]), metrics_path: "/flower/metrics" },
      // What celery-exporter would show.
      {
        ...target("celery-exporter", [`127.0.0.1:${port}`]),
        metric_relabel_configs: [
          { source_labels: ["__name__"], regex: CELERY_EXPORTER_SERIES.join("|"), action: "keep" },
          { regex: "worker", action: "labeldrop" },
        ],
      },
    ],
  });
  lifecycle.defer("prometheus", () => prometheus.stop());
  evaluation = new Evaluation(prometheus, { task: TASK });

  const publisher = await connectPublisher(redis.url);
  lifecycle.defer("publisher", () => publisher.close());
  await observe(redis.url);
  // What is there before the first scrape of a series increases nothing.
  await load(publisher, 1);
  await publisher.publish([{ routingKey: "task.sent", hostname: "gen1@client", body: Buffer.from("{") }]);
  await load(publisher, 2);
});
afterAll(() => lifecycle.close());

function target(job: string, targets: readonly string[]): object {
  return { job_name: job, static_configs: [{ targets, labels: CLUSTER }] };
}

/** Publishes tasks with every end, one that waits, and the heartbeats of their workers, and waits until Prometheus has them. */
async function load(publisher: Publisher, seed: number): Promise<void> {
  const burst = prepareBurst(2_000, seed);
  await publishBurst(publisher, burst);
  const now = Date.now() / 1_000;
  const waiting = { type: "task-sent", uuid: `waiting-${seed}`, name: TASK, queue: "celery", retries: 0, args: "()", kwargs: "{}" };
  const beat = { type: "worker-heartbeat", freq: 2, active: 1, processed: 100 * seed, sw_ident: "py-celery", sw_ver: "5.6.3" };
  await publisher.publish([
    {
      routingKey: "task.sent",
      hostname: "gen1@client",
      body: Buffer.from(JSON.stringify({ ...waiting, hostname: "gen1@client", timestamp: now })),
    },
    ...WORKERS.map((hostname) => ({
      routingKey: "worker.heartbeat",
      hostname,
      body: Buffer.from(JSON.stringify({ ...beat, hostname, timestamp: now })),
    })),
  ]);
  published.ended += burst.tasks.filter(({ status }) => status === "SUCCESS" || status === "FAILURE").length;
  published.events += burst.events + WORKERS.length + 1;
  await vi.waitFor(async () => expect(await scraped()).toEqual(published), { timeout: 60_000, interval: 300 });
}

/** What Prometheus has seen of it. The tasks count in two jobs. */
async function scraped(): Promise<typeof published> {
  const [ended] = await prometheus.query("sum({__name__=~'celery_task_(succeeded|failed)_total'})");
  const [events] = await prometheus.query("sum(celery_metrics_exporter_events_received_total)");
  return { ended: (ended?.value ?? 0) / 2, events: events?.value ?? 0 };
}

/** What a monitor would see on RabbitMQ and on Redis, together. */
async function observe(redisUrl: string): Promise<void> {
  const redis = await connectRedis({
    url: redisUrl,
    use: "producer",
    name: "test",
    startupTimeoutMs: 10_000,
    logger,
    lifecycle,
    health: new Health(),
  });
  const exporters = EXPORTERS.filter(({ name }) => name === "prometheus");
  const outlet = new ObservationOutlet({ redis, prefix: PREFIX, exporters, logger, metrics: new Metrics() });
  lifecycle.defer("outlet", () => outlet.close());
  const timestamp = Date.now() / 1_000;
  const queues = ["celery", "payments", "images", "mail"];
  await outlet.publish([
    {
      type: "queues-observed",
      timestamp,
      broker: "redis",
      queues: queues.map((name) => ({ name, messages: 3, consumers: 1 })),
      unacked: { messages: 1, oldestAt: timestamp - 10 },
    },
    {
      type: "workers-observed",
      timestamp,
      workers: WORKERS.map((hostname) => ({ hostname, queues, concurrency: 4, prefetchCount: 16, uptime: 60 })),
    },
  ]);
}

describe("with the series of a load", () => {
  it("every panel of our dashboards shows data", async () => {
    const dashboards = grafanaDashboards();
    const expressions = panelExpressions(dashboards);
    expect(expressions.length).toBeGreaterThan(80);
    await expect.poll(() => evaluation.withoutData(expressions), PATIENCE).toEqual([]);
    await expect.poll(() => evaluation.withoutChoice(variableQueries(dashboards)), PATIENCE).toEqual([]);
  });

  it("every panel of our dashboards that needs nothing new shows data of celery-exporter", async () => {
    const expressions = panelExpressions(grafanaDashboards()).filter(([, expression]) =>
      parseExpression(withoutVariables(expression)).selectors.every(({ name }) => CELERY_EXPORTER_SERIES.includes(name)),
    );
    expect(expressions.length).toBeGreaterThan(60);
    await expect.poll(() => evaluation.withoutData(expressions, { job: "celery-exporter" }), PATIENCE).toEqual([]);
  });

  it("every panel of celery-exporter's dashboards shows data", async () => {
    const values = { ...CLUSTER, job: "celery" };
    await expect.poll(() => evaluation.withoutData(celeryExporterExpressions(), values), PATIENCE).toEqual([]);
    await expect.poll(() => evaluation.withoutChoice(CELERY_EXPORTER_VARIABLES, values), PATIENCE).toEqual([]);
  });

  it("every panel and alert of Flower's dashboard has data", async () => {
    await expect.poll(() => evaluation.withoutData([...FLOWER_PANELS, ...FLOWER_ALERTS]), PATIENCE).toEqual([]);
  });

  it("Datadog's integration of Celery finds every metric that it reads from Flower", async () => {
    const text = await (await fetch(`http://127.0.0.1:${exposedPort}/flower/metrics`)).text();
    const found = new Set([...text.matchAll(/^(flower_\w+?)(?:_total|_bucket)?\{/gm)].map(([, name]) => name));
    expect(Object.keys(DATADOG_METRICS).filter((name) => !found.has(name))).toEqual([]);
  });

  it("no alert has an error", async () => {
    const expressions = ruleExpressions();
    expect(expressions.length).toBeGreaterThan(15);
    for (const [, expression] of expressions) await prometheus.query(expression);
  });
});

describe("promtool", () => {
  it("finds no fault with the rules", async () => {
    expect(await promtool(["check", "rules", join(ROOT, RULES)])).toMatchObject({ ok: true });
  });

  it("sees every alert fire and stay silent", async () => {
    const { ok, output } = await promtool(["test", "rules", join(ROOT, RULE_TESTS)]);
    expect(ok, output).toBe(true);
  });
});
