import {
  celeryQueueMinute,
  celeryTask,
  celeryTaskMinute,
  celeryWorker,
  connectDatabase,
  mergeQueueMinutes,
  mergeWorkerEvents,
  upsertTasks,
  type Database,
} from "@celery-metrics-exporter/db";
import { queuesObserved, taskSent, workerHeartbeat } from "@celery-metrics-exporter/celery/testing";
import { Metrics, createLogger } from "@celery-metrics-exporter/runtime";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type MaintenanceOptions, startMaintenance } from "../src/maintenance.ts";
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
/** Works every few milliseconds. */
const start = (options: Partial<MaintenanceOptions> = {}) =>
  startMaintenance({
    database,
    limits: { olderThanDays: 7 },
    historyDays: undefined,
    statisticsDays: { minutes: 0, all: 400 },
    workerExpiryDays: 30,
    logger,
    metrics: new Metrics(),
    rollUpEveryMs: 20,
    cleanEveryMs: 20,
    ...options,
  });

afterEach(async () => {
  await database.close();
  await harness.close();
});

const left = async () => [
  (await database.drizzle.select().from(celeryWorker)).length,
  (await database.drizzle.select().from(celeryQueueMinute)).length,
  (await database.drizzle.select().from(celeryTaskMinute)).length,
];

describe("roll-ups", () => {
  test("count what is stored, and retention deletes no task before it is counted", async () => {
    const counted = async () =>
      (await database.drizzle.select().from(celeryTaskMinute).orderBy(celeryTaskMinute.minute)).map(({ status, n }) => ({ status, n }));
    const maintenance = start();
    const rows = async () => (await database.drizzle.select().from(celeryTask)).length;
    await expect.poll(rows).toBe(1);
    await upsertTasks(database, [taskSent({ uuid: "new", timestamp: Date.now() / 1_000 })]);
    const sum = async () => (await counted()).reduce((total, { n }) => total + n, 0);
    await expect.poll(sum).toBe(3);
    await maintenance.stop();
    await maintenance.stop();
    expect(await rows()).toBe(2);
  });

  test("and workers are deleted after their own number of days, and queues too", async () => {
    const old = Date.now() / 1_000 - 40 * 86_400;
    await mergeWorkerEvents(database, [workerHeartbeat({ timestamp: old })], old);
    await mergeQueueMinutes(database, [queuesObserved({ timestamp: old })]);
    const never = start({ limits: undefined, statisticsDays: { minutes: 0, all: 0 }, workerExpiryDays: 0 });
    await expect.poll(left).toEqual([1, 3, 2]);
    await never.stop();
    expect(await left()).toEqual([1, 3, 2]);
    const maintenance = start({ limits: undefined, statisticsDays: { minutes: 3, all: 7 }, workerExpiryDays: 39 });
    await expect.poll(left).toEqual([0, 0, 1]);
    await maintenance.stop();
  });
});
