import {
  queuesObserved,
  taskReceived,
  taskStarted,
  taskSucceeded,
  workerHeartbeat,
  workersObserved,
} from "@celery-metrics-exporter/celery/testing";
import { sql } from "drizzle-orm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { upsertTasks } from "../../src/merge/upsert.ts";
import { deleteOldQueueMinutes, mergeQueueMinutes } from "../../src/rollups/queue-minutes.ts";
import { deleteOldRollUps, rollUp, sealRollUps } from "../../src/rollups/roll-up.ts";
import { readStatistics } from "../../src/rollups/statistics.ts";
import { type Database, query } from "../../src/tables/database.ts";
import { deleteSilentWorkers, mergeListened, mergeObservedWorkers, mergeWorkerEvents } from "../../src/workers/merge-workers.ts";
import { type UsualRuntime, lostRows, stuckAfterSeconds, usualRuntimesStatement } from "../../src/workers/worker-state.ts";

let database: Database;
beforeAll(async () => {
  database = await connectDatabase({ url: "pglite:memory" });
});
afterAll(() => database.close());

test("workers, queues, lost tasks and statistics work in the embedded database", async () => {
  const now = Date.now() / 1_000;
  await mergeWorkerEvents(
    database,
    [workerHeartbeat({ timestamp: now - 300, loadavg: [1, 2] }), workerHeartbeat({ timestamp: now - 298 })],
    now - 290,
  );
  await mergeObservedWorkers(database, [workersObserved({ timestamp: now - 400 })]);
  await mergeListened(database, [{ type: "listened", source: "broker", since: now - 600, timestamp: now }]);
  await mergeQueueMinutes(database, [queuesObserved({ timestamp: now }), queuesObserved({ timestamp: now - 1 })]);
  const common = { name: "a", timestamp: now - 120 };
  await upsertTasks(
    database,
    ["running", ...Array.from({ length: 30 }, (_, index) => `done-${index}`)].flatMap((uuid) => [
      taskReceived({ ...common, uuid }),
      taskStarted({ ...common, uuid }),
      ...(uuid === "running" ? [] : [taskSucceeded({ ...common, uuid, runtime: 0.1 })]),
    ]),
  );
  expect(await rollUp(database)).toBe(1);
  expect(await query(database, sql`select task_id from (${lostRows()}) lost`)).toEqual([{ task_id: "running" }]);
  const [usual] = await query<UsualRuntime>(database, usualRuntimesStatement(["a"]));
  expect(stuckAfterSeconds(usual?.histogram ?? null)).toBe(60);
  const { items: statistics } = await readStatistics((statement) => query(database, statement), {
    from: new Date(Date.now() - 86_400_000),
    to: new Date(Date.now() + 86_400_000),
    step: "day",
    by: ["name", "status"],
    names: ["a"],
  });
  expect(statistics).toMatchObject([
    { name: "a", status: "SUCCESS", n: 30, runtime: { count: 30 } },
    { name: "a", status: "STARTED", n: 1 },
  ]);
  expect(await query(database, sql`select count(*)::int as rows from celery_queue_minute where unacked = 8 or messages = 12`)).not.toEqual([
    { rows: 0 },
  ]);
  await sealRollUps(database, 1);
  expect(
    await Promise.all([
      deleteSilentWorkers(database, 30),
      deleteOldRollUps(database, { minutes: 10, all: 30 }),
      deleteOldQueueMinutes(database, 30),
    ]),
  ).toEqual([0, 0, 0]);
});
