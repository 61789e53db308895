/** docs/prometheus.md has a row for every metric that Prometheus scrapes, with its type and labels, and for no other. */
import { ALL_ROLES } from "cli";
import { taskFailed, taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { EXPORTERS, Fanout, ObservationOutlet } from "@celery-metrics-exporter/pipeline";
import { Health, Lifecycle, Metrics, connectRedis, createLogger, startRoles } from "@celery-metrics-exporter/runtime";
import { freePort, startRedis } from "@celery-metrics-exporter/testkit";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";

const DOCUMENT = readFileSync(new URL("../../docs/prometheus.md", import.meta.url), "utf8");
const PREFIX = "{cme}";

let address: string;
const logger = createLogger("test", "silent");
const lifecycle = new Lifecycle(logger);

beforeAll(async () => {
  const [server, port] = await Promise.all([startRedis(), freePort()]);
  lifecycle.defer("redis", () => server.stop());
  const settings = {
    REDIS_URL: server.url,
    QUEUE_PREFIX: PREFIX,
    PROMETHEUS_PORT: String(port),
    PROMETHEUS_FLOWER_METRICS: "true",
    PROMETHEUS_QUEUE_PRIORITIES: "true",
    HEALTH_PORT: "0",
  };
  const roles = await startRoles(
    ALL_ROLES.filter(({ name }) => name === "prometheus-processor"),
    settings,
    logger,
  );
  lifecycle.defer("processor", () => roles.stop());
  const redis = await connectRedis({
    url: server.url,
    use: "producer",
    name: "test",
    startupTimeoutMs: 10_000,
    logger,
    lifecycle,
    health: new Health(),
  });
  const exporters = EXPORTERS.filter(({ name }) => name === "prometheus");
  const fanout = new Fanout({ redis, prefix: PREFIX, exporters, whenFull: "hold", highWaterEvents: 1_000, logger, metrics: new Metrics() });
  lifecycle.defer("fanout", () => fanout.close());
  await fanout.start();
  const events = [
    ...life("one"),
    taskSucceeded({ uuid: "one" }),
    ...life("two"),
    taskFailed({ uuid: "two" }),
    taskSent({ uuid: "waiting" }),
  ];
  const now = Date.now() / 1_000;
  const heartbeat = { type: "worker-heartbeat", hostname: "w1@host-a", timestamp: now, active: 1, processed: 2, sw_ver: "5.6.3" } as const;
  await fanout.enqueue({ broker: "redis", events: [...events, heartbeat], receivedAt: now });
  await fanout.reportListened("broker", { since: now - 60, until: now });
  const outlet = new ObservationOutlet({ redis, prefix: PREFIX, exporters, logger, metrics: new Metrics() });
  lifecycle.defer("outlet", () => outlet.close());
  await outlet.publish([
    {
      type: "queues-observed",
      timestamp: now,
      broker: "redis",
      queues: [{ name: "default", messages: 3, consumers: 1 }],
      unacked: { messages: 1, oldestAt: now - 10 },
    },
    {
      type: "workers-observed",
      timestamp: now,
      workers: [{ hostname: "w1@host-a", queues: ["default"], concurrency: 4, prefetchCount: 16, uptime: 60 }],
    },
  ]);
  address = `http://127.0.0.1:${port}`;
});
afterAll(() => lifecycle.close());

/** The events of a task up to its end. */
function life(uuid: string) {
  return [taskSent({ uuid }), taskReceived({ uuid }), taskStarted({ uuid })];
}

async function look(path = "/metrics"): Promise<string> {
  return (await fetch(address + path)).text();
}

/** Rows of the table: name, type, labels. */
function documented(): string[] {
  return [...DOCUMENT.matchAll(/^\| `(\w+)` +\| (counter|gauge|histogram) +\| (.*?) +\|/gm)].map(
    ([, name = "", type = "", labels = ""]) =>
      `${name} ${type} ${[...labels.matchAll(/\w+/g)]
        .map(([label]) => label)
        .toSorted()
        .join()}`,
  );
}

/** The families of a scrape, in the same form. */
function shownIn(scraped: string): string[] {
  return [...scraped.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name = "", type = ""]) => {
    const series = new RegExp(`^${name}(?:_count)?\\{(.*)\\} `, "m").exec(scraped)?.[1] ?? "";
    return `${name} ${type} ${[...series.matchAll(/(\w+)="/g)]
      .map(([, label]) => label)
      .toSorted()
      .join()}`;
  });
}

it("has the name, type and labels of every metric", async () => {
  // Tasks, what workers say of themselves and what the monitor sees of them are counted one after the other.
  const complete = [
    /exporter_listened_timestamp_seconds /,
    /_failed_runtime_count\{.*\} 1\.0/,
    /worker_concurrency\{.*\} 4\.0/,
    /worker_up\{.*\} 1\.0/,
    /queue_length\{.*\} 3\.0/,
  ];
  for (const series of complete) await expect.poll(() => look(), { timeout: 30_000, interval: 200 }).toMatch(series);
  // Shown since the second scrape.
  const flower = (): Promise<string> => look("/flower/metrics");
  await expect.poll(flower, { timeout: 10_000, interval: 200 }).toContain("flower_task_prefetch_time_seconds{");
  const shown = [...shownIn(await look()), ...shownIn(await flower())];
  expect(shown.length).toBeGreaterThan(10);
  expect(documented().toSorted()).toEqual(shown.toSorted());
});
