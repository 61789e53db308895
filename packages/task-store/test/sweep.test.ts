import { taskStarted } from "@celery-metrics-exporter/celery/testing";
import { Health, Lifecycle, Metrics, connectRedis, createLogger } from "@celery-metrics-exporter/runtime";
import { TaskStore } from "@celery-metrics-exporter/task-store";
import { startRedis } from "@celery-metrics-exporter/testkit";
import { expect, it } from "vitest";
import { UnfinishedTasks } from "../src/unfinished-tasks.ts";

it("tasks that never finish are counted when the Store has given them up", async () => {
  const server = await startRedis();
  const logger = createLogger("test", "silent");
  const lifecycle = new Lifecycle(logger);
  const connection = { url: server.url, use: "producer", name: "Store", startupTimeoutMs: 5_000 } as const;
  const redis = await connectRedis({ ...connection, logger, lifecycle, health: new Health() });
  const metrics = new Metrics();
  const expiries = { taskExpirySeconds: 1, sentExpirySeconds: 60, leaseMs: 1_000 };
  const store = new TaskStore({ redis, queuePrefix: "{cme}", ...expiries, keepWorker: false, keepException: false });
  await store.apply([taskStarted({ uuid: "a" }), taskStarted({ uuid: "b" })]);
  const unfinished = new UnfinishedTasks({ store, metrics, logger, intervalMs: 50 });
  try {
    await expect.poll(() => metrics.registry.metrics()).toMatch(/datadog_tasks_open 2\n/);
    await expect.poll(() => metrics.registry.metrics(), { timeout: 10_000 }).toMatch(/datadog_tasks_expired_total 2\n/);
    expect(await metrics.registry.metrics()).toMatch(/datadog_tasks_open 0\n/);
  } finally {
    await unfinished.stop();
    await unfinished.stop();
    await lifecycle.close();
    await server.stop();
  }
});
