import {
  SENT_AT,
  taskFailed,
  taskReceived,
  taskRejected,
  taskRetried,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import { sql } from "drizzle-orm";
import { Client } from "pg";
import { describe, expect, test } from "vitest";
import { ADVISORY_LOCKS } from "../../src/migrate/locks.ts";
import { query } from "../../src/tables/database.ts";
import { deleteOldTasks, deleteTasks } from "../../src/tables/delete-tasks.ts";
import { celeryTask, celeryTaskEvent } from "../../src/tables/schema.ts";
import { upsertTasks } from "../../src/merge/upsert.ts";
import { useTaskTable } from "../task-table.ts";

const table = useTaskTable();
const ids = async () => Object.keys(await table.rows()).sort();
const DAY = 86_400;
const daysAgo = (days: number) => Date.now() / 1_000 - days * DAY;

/** Makes rows look as if created at the time of their first event. */
async function ageRows(): Promise<void> {
  await query(table.database, sql`update ${celeryTask} set created_at = least(coalesce(sent_at, received_at), now())`);
}

describe("deleteTasks", () => {
  test("deletes exactly these tasks, for any ids, and repeatedly", async () => {
    const odd = ["a", "b'; --", "ünï🎉", 'quote"', "back\\slash", "nul\0"];
    await upsertTasks(
      table.database,
      [...odd, "keep"].map((uuid) => taskReceived({ uuid })),
    );
    expect(await deleteTasks(table.database, [...odd, "never seen"])).toBe(odd.length);
    expect(await deleteTasks(table.database, odd)).toBe(0);
    expect(await deleteTasks(table.database, [])).toBe(0);
    expect(await ids()).toEqual(["keep"]);
  });

  test("keeps tasks with a task-sent, which an excluded task does not have", async () => {
    await upsertTasks(table.database, [taskSent({ uuid: "sent" }), taskStarted({ uuid: "sent" }), taskStarted({ uuid: "started" })]);
    await deleteTasks(table.database, ["sent", "started"]);
    expect(await ids()).toEqual(["sent"]);
  });

  test("deletes their events too, unless no history is kept", async () => {
    const retried = ["a", "b", "sent"].map((uuid) => taskRetried({ uuid }));
    await upsertTasks(table.database, [...retried, taskSent({ uuid: "sent" })]);
    await deleteTasks(table.database, ["a", "sent"]);
    await deleteTasks(table.database, ["b"], "off");
    const left = await query(table.database, sql`select task_id from ${celeryTaskEvent} order by 1`);
    expect(left).toEqual([{ task_id: "b" }, { task_id: "sent" }]);
  });

  test("does not deadlock with upserts of the same tasks, in any physical order of the rows", async () => {
    const many = Array.from({ length: 400 }, (_, index) => `task-${String(index).padStart(3, "0")}`);
    const events = many.map((uuid) => taskReceived({ uuid }));
    for (let round = 1; round <= 4; round++) {
      // The last id first.
      for (const group of chunks(events, 10).toReversed()) await upsertTasks(table.database, group);
      await query(table.database, sql`analyze ${celeryTask}`); // so that Postgres reads them in physical order
      const newer = events.map((event) => ({ ...event, timestamp: SENT_AT + round }));
      await Promise.all([newer, newer].flatMap((batch) => [upsertTasks(table.database, batch), deleteTasks(table.database, many)]));
      await deleteTasks(table.database, many);
    }
    expect(await ids()).toEqual([]);
  });
});

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) => items.slice(index * size, (index + 1) * size));
}

describe("deleteOldTasks", () => {
  test("deletes in batches the tasks whose last event, row and, unless finished, ETA are old", async () => {
    const old = Array.from({ length: 25 }, (_, index) => `old-${index}`);
    await upsertTasks(table.database, [
      ...old.map((uuid) => taskSent({ uuid, timestamp: daysAgo(9) })),
      taskSent({ uuid: "young", timestamp: daysAgo(6.9) }),
      taskSent({ uuid: "still-running", timestamp: daysAgo(9) }),
      taskStarted({ uuid: "still-running", timestamp: daysAgo(1) }),
      taskReceived({ uuid: "eta-to-come", timestamp: daysAgo(30), eta: daysAgo(-2) }),
      taskReceived({ uuid: "revoked-before-its-eta", timestamp: daysAgo(30), eta: 3_999_999_999 }),
      taskRevoked({ uuid: "revoked-before-its-eta", timestamp: daysAgo(29) }),
      taskReceived({ uuid: "eta-long-past", timestamp: daysAgo(30), eta: daysAgo(29) }),
    ]);
    await ageRows();
    await upsertTasks(table.database, [taskSent({ uuid: "late-arrival", timestamp: daysAgo(40) })]);
    expect(await deleteOldTasks(table.database, { olderThanDays: 7, batchSize: 10, pauseMs: 1 })).toBe(27);
    expect(await ids()).toEqual(["eta-to-come", "late-arrival", "still-running", "young"]);
  });

  test("has a limit for each end, and continues behind the tasks that stay", async () => {
    const ends = { s: taskSucceeded, f: taskFailed, r: taskRevoked, j: taskRejected, t: taskStarted };
    const ages = [3, 9, 40];
    await upsertTasks(
      table.database,
      Object.entries(ends).flatMap(([name, end]) =>
        ages.flatMap((days) => [
          taskSent({ uuid: `${name}${days}`, timestamp: daysAgo(days) }),
          end({ uuid: `${name}${days}`, timestamp: daysAgo(days) }),
        ]),
      ),
    );
    await upsertTasks(table.database, [
      taskSent({ uuid: "requeued", timestamp: daysAgo(9) }),
      taskRejected({ uuid: "requeued", requeue: true, timestamp: daysAgo(9) }),
    ]);
    await ageRows();
    const byState = { SUCCESS: 2, FAILURE: 30, REJECTED: 0 };
    expect(await deleteOldTasks(table.database, { olderThanDays: 7, byState, batchSize: 1, pauseMs: 0 })).toBe(9);
    expect(await ids()).toEqual(["f3", "f9", "j3", "j40", "j9", "r3", "t3"]);
  });

  test("deletes each task once when several processes delete concurrently", async () => {
    await upsertTasks(
      table.database,
      Array.from({ length: 40 }, (_, index) => taskSent({ uuid: `old-${index}`, timestamp: daysAgo(9) })),
    );
    await ageRows();
    const deleted = await Promise.all(
      [1, 2, 3, 4].map(() => deleteOldTasks(table.database, { olderThanDays: 7, batchSize: 5, pauseMs: 0 })),
    );
    const rest = await deleteOldTasks(table.database, { olderThanDays: 7 });
    expect(deleted.reduce((sum, count) => sum + count, rest)).toBe(40);
    expect(await ids()).toEqual([]);
  });

  test("leaves the work to a process that is already deleting, and skips rows being written", async () => {
    await upsertTasks(
      table.database,
      ["locked", "free"].map((uuid) => taskSent({ uuid, timestamp: daysAgo(9) })),
    );
    await ageRows();
    const other = new Client(table.url);
    await other.connect();
    try {
      await other.query("select pg_advisory_lock($1, 'celery_task'::regclass::oid::int)", [ADVISORY_LOCKS.retention]);
      expect(await deleteOldTasks(table.database, { olderThanDays: 7 })).toBe(0);
      await other.query("select pg_advisory_unlock_all()");
      await other.query("begin");
      await other.query("select 1 from celery_task where task_id = 'locked' for update");
      expect(await deleteOldTasks(table.database, { olderThanDays: 7 })).toBe(1);
      expect(await ids()).toEqual(["locked"]);
      await other.query("rollback");
      expect(await deleteOldTasks(table.database, { olderThanDays: 7 })).toBe(1);
    } finally {
      await other.end();
    }
  });

  test("stops between two statements when aborted", async () => {
    await upsertTasks(
      table.database,
      Array.from({ length: 20 }, (_, index) => taskSent({ uuid: `old-${index}`, timestamp: daysAgo(9) })),
    );
    await ageRows();
    const abort = new AbortController();
    const deleting = deleteOldTasks(table.database, { olderThanDays: 7, batchSize: 2, pauseMs: 10_000, signal: abort.signal });
    await expect.poll(async () => (await ids()).length).toBe(18);
    abort.abort();
    expect(await deleting).toBe(2);
  });

  test("finds the old rows by the index", async () => {
    await upsertTasks(
      table.database,
      Array.from({ length: 3_000 }, (_, index) => taskSent({ uuid: `young-${index}` })),
    );
    await query(table.database, sql`analyze ${celeryTask}`);
    const plan = await query<Record<string, string>>(
      table.database,
      sql`explain select 1 from ${celeryTask} where seen_at < now() - interval '7 days' order by seen_at limit 2000`,
    );
    expect(JSON.stringify(plan)).toContain("celery_task_seen_at_idx");
  });
});
