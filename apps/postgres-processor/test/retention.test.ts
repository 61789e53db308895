import { celeryTask, connectDatabase, upsertTasks, type Database } from "@celery-metrics-exporter/db";
import { taskSent } from "@celery-metrics-exporter/celery/testing";
import { Metrics, createLogger } from "@celery-metrics-exporter/runtime";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startRetention } from "../src/retention.ts";
import { createPostgresHarness, type PostgresHarness } from "./postgres-harness.ts";

const logger = createLogger("test", "silent");
let harness: PostgresHarness;
let database: Database;

beforeEach(async () => {
  harness = await createPostgresHarness();
  database = await connectDatabase({ url: harness.url });
  await upsertTasks(database, [
    taskSent({ uuid: "old", timestamp: Date.now() / 1_000 - 9 * 86_400 }),
    taskSent({ uuid: "young", timestamp: Date.now() / 1_000 }),
  ]);
  await database.drizzle.update(celeryTask).set({ createdAt: "2020-01-01" });
});
afterEach(async () => {
  await database.close();
  await harness.close();
});

describe("retention", () => {
  test("deletes old tasks at every interval, counts them, and stops", async () => {
    const metrics = new Metrics();
    const retention = startRetention({ database, limits: { olderThanDays: 7 }, historyDays: undefined, logger, metrics, intervalMs: 20 });
    const left = async () => (await database.drizzle.select({ id: celeryTask.taskId }).from(celeryTask)).map(({ id }) => id);
    await expect.poll(left).toEqual(["young"]);
    await expect.poll(() => metrics.registry.metrics()).toMatch(/celery_metrics_exporter_postgres_rows_deleted_total 1\b/);
    await retention.stop();
    await retention.stop();
  });

  test("continues after the database was away", async () => {
    const byProxy = await connectDatabase({ url: harness.breakableUrl });
    await harness.breakSink();
    const retention = startRetention({
      database: byProxy,
      limits: { olderThanDays: 7 },
      historyDays: undefined,
      logger,
      metrics: new Metrics(),
      intervalMs: 20,
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(await harness.observe()).toHaveLength(2);
    await harness.mendSink();
    await expect.poll(() => harness.observe()).toHaveLength(1);
    await retention.stop();
    await byProxy.close();
  });
});
