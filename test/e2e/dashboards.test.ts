/** The dashboards on a real Prometheus, with the series of a real Celery application on each broker, and of everything that `start` runs for it. */
import { ALL_ROLES } from "cli";
import { Lifecycle, createLogger, startRoles } from "@celery-metrics-exporter/runtime";
import {
  createVhost,
  driveShop,
  freePort,
  removeFolder,
  startCeleryWorker,
  startPrometheus,
  startRedis,
  startStatsdSink,
  temporaryFolder,
} from "@celery-metrics-exporter/testkit";
import { join } from "node:path";
import { describe, it } from "vitest";
import { CELERY_EXPORTER_VARIABLES, celeryExporterExpressions } from "../dashboards/celery-exporter.ts";
import { documentedRelabelling } from "../dashboards/documented.ts";
import { Evaluation } from "../dashboards/evaluation.ts";
import { grafanaDashboards, panelExpressions, variableQueries } from "../dashboards/grafana.ts";

const CLUSTER = { cluster: "c1", namespace: "n1" };
/** It succeeds, fails and is retried. */
const TASK = "shop.charge_card";
const ROLES = ["receiver", "prometheus-processor", "datadog-processor", "monitor"];
const TASKS = 150;
const PATIENCE = { timeout: 60_000, interval: 2_000 };

/** Shown by reason, so nothing is shown before something was rejected. */
const NOTHING_REJECTED = "pipeline.json: What went wrong, E";

/** What stays empty by broker. */
const EMPTY: Readonly<Record<string, readonly string[]>> = {
  redis: [
    NOTHING_REJECTED,
    // Redis does not know who consumes.
    "workers-and-queues.json: Who works on the queues, D",
  ],
  amqp: [
    // A receiver on RabbitMQ takes nothing over: RabbitMQ keeps what one has not taken.
    "pipeline.json: What went wrong, D",
    NOTHING_REJECTED,
    // RabbitMQ tells them only to its management plugin.
    "workers-and-queues.json: Unacknowledged messages, A",
    "workers-and-queues.json: Unacknowledged messages, B",
    // RabbitMQ does not tell how many messages have which priority.
    "workers-and-queues.json: Messages waiting, by priority, A",
  ],
};

describe.concurrent("after a real Celery application has run", () => {
  it.for(Object.keys(EMPTY))("every panel shows data, with a broker on %s", async (kind, { expect, onTestFinished }) => {
    const logger = createLogger("test", "silent");
    const lifecycle = new Lifecycle(logger);
    onTestFinished(() => lifecycle.close());
    const [redis, broker, sink, port] = await Promise.all([
      startRedis(),
      kind === "redis" ? startRedis() : createVhost(),
      startStatsdSink(),
      freePort(),
    ]);
    lifecycle.defer("redis", () => redis.stop());
    lifecycle.defer("broker", () => ("drop" in broker ? broker.drop() : broker.stop()));
    lifecycle.defer("sink", () => sink.close());
    const folder = temporaryFolder("shop");
    lifecycle.defer("log of the shop", () => removeFolder(folder));
    const shopLog = join(folder, "shop.log");
    const brokerUrl = broker.url;
    const worker = await startCeleryWorker({ brokerUrl, args: ["-E"], env: { SHOP_LOG: shopLog } });
    lifecycle.defer("worker", () => worker.kill());
    const settings = {
      CELERY_BROKER_URL: brokerUrl,
      REDIS_URL: redis.url,
      DD_AGENT_HOST: "127.0.0.1",
      DD_DOGSTATSD_PORT: String(sink.port),
      EXPORTERS: "datadog,prometheus",
      PROMETHEUS_PORT: String(port),
      PROMETHEUS_QUEUE_PRIORITIES: "true",
      MONITOR_INTERVAL_SECONDS: "1",
      MONITOR_INSPECT_INTERVAL_SECONDS: "5",
      HEALTH_PORT: String(await freePort()),
    };
    const running = await startRoles(
      ALL_ROLES.filter(({ name }) => ROLES.includes(name)),
      settings,
      logger,
    );
    lifecycle.defer("roles", () => running.stop());
    const target = (job: string, host: string): object => ({ job_name: job, static_configs: [{ targets: [host], labels: CLUSTER }] });
    const prometheus = await startPrometheus({
      scrapes: [
        { ...target("celery", `127.0.0.1:${port}`), metric_relabel_configs: documentedRelabelling() },
        target("celery-metrics-exporter", new URL(running.healthUrl).host),
      ],
    });
    lifecycle.defer("prometheus", () => prometheus.stop());
    const evaluation = new Evaluation(prometheus, { task: TASK });
    const isScraped = (expression: string): Promise<void> =>
      expect.poll(async () => (await prometheus.query(expression)).length, { ...PATIENCE, message: expression }).toBeGreaterThan(0);
    // An exchange that the receiver waits for exists since the worker does.
    await expect.poll(async () => (await fetch(`${running.healthUrl}/readyz`)).status, PATIENCE).toBe(200);
    // Messages wait while the worker does.
    process.kill(worker.pid, "SIGSTOP");
    const driven = driveShop({ brokerUrl, shopLog, count: TASKS, revoke: true, seed: 1 });
    try {
      await isScraped("celery_queue_oldest_waiting_seconds");
    } finally {
      process.kill(worker.pid, "SIGCONT");
    }
    await driven;
    // What is there before the first scrape of a series increases nothing.
    await isScraped(`celery_task_failed_total{name="${TASK}"} > 0`);
    await driveShop({ brokerUrl, shopLog, count: TASKS, revoke: true, seed: 2 });

    const dashboards = grafanaDashboards();
    const panels = panelExpressions(dashboards);
    await expect.poll(() => evaluation.withoutData(panels), PATIENCE).toEqual(EMPTY[kind]);
    expect(await evaluation.withoutChoice(variableQueries(dashboards))).toEqual([]);
    const values = { ...CLUSTER, job: "celery" };
    await expect.poll(() => evaluation.withoutData(celeryExporterExpressions(), values), PATIENCE).toEqual([]);
    expect(await evaluation.withoutChoice(CELERY_EXPORTER_VARIABLES, values)).toEqual([]);
  });
});
