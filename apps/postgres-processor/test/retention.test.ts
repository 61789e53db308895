import { celeryTask, connectDatabase, upsertTasks, type Database } from "@celery-metrics-exporter/db";
import { taskSent } from "@celery-metrics-exporter/celery/testing";
import { Metrics, createLogger, loadConfig } from "@celery-metrics-exporter/runtime";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Config } from "../src/config.ts";
import { startRetention, toRetentionLimits } from "../src/retention.ts";
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

const limitsOf = (env: Record<string, string>) => toRetentionLimits(loadConfig(Config, { DATABASE_URL: "pglite:memory", ...env }));

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

  test("creates the partitions of the events, although no task is deleted", async () => {
    const partitions = async () => {
      const { rows } = (await database.drizzle.execute("select count(*)::int as n from pg_inherits")) as { rows: { n: number }[] };
      return rows[0]?.n;
    };
    const all = await partitions();
    const latest =
      "select max(inhrelid::regclass::text) from pg_inherits where inhparent = 'celery_task_event'::regclass and inhrelid::regclass::text like '%_2%'";
    await database.drizzle.execute(`do $$ begin execute 'drop table ' || (${latest}); end $$`);
    const retention = startRetention({ database, limits: undefined, historyDays: 30, logger, metrics: new Metrics(), intervalMs: 20 });
    await expect.poll(partitions).toBe(all);
    await retention.stop();
    expect(await harness.observe()).toHaveLength(2);
  });

  test("has a limit for each end, if one is set", () => {
    expect(limitsOf({})).toBeUndefined();
    expect(limitsOf({ POSTGRES_RETENTION_DAYS_FAILURE: "0" })).toBeUndefined();
    expect(limitsOf({ POSTGRES_RETENTION_DAYS_SUCCESS: "3" })).toEqual({ olderThanDays: 0, byState: { SUCCESS: 3 } });
    const env = { POSTGRES_RETENTION_DAYS: "7", POSTGRES_RETENTION_DAYS_FAILURE: "90", POSTGRES_RETENTION_DAYS_REVOKED: "0" };
    expect(limitsOf(env)).toEqual({ olderThanDays: 7, byState: { FAILURE: 90, REVOKED: 0 } });
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
