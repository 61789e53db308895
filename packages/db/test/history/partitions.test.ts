import { createDatabase, type TestDatabase } from "@celery-metrics-exporter/testkit";
import { taskRetried } from "@celery-metrics-exporter/celery/testing";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Client } from "pg";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { checkMayMaintainPartitions, maintainPartitions } from "../../src/history/partitions.ts";
import { ADVISORY_LOCKS } from "../../src/migrate/locks.ts";
import { migrate } from "../../src/migrate/migrate.ts";
import type { Database } from "../../src/tables/database.ts";
import { upsertTasks } from "../../src/merge/upsert.ts";

let created: TestDatabase;
let database: Database;
let client: Client;

beforeEach(async () => {
  created = await createDatabase();
  await migrate(created.url);
  database = await connectDatabase({ url: created.url });
  client = new Client({ connectionString: created.url });
  await client.connect();
});
afterEach(async () => {
  await client.end();
  await database.close();
  await created.drop();
});

const DAY = 86_400;
/** Noon in UTC, this many days from now. */
const noon = (days: number): number => Math.floor(Date.now() / 1_000 / DAY + days) * DAY + DAY / 2;
const nameOf = (days: number): string => `celery_task_event_${new Date(noon(days) * 1_000).toISOString().slice(0, 10).replaceAll("-", "")}`;
const store = (...days: number[]) =>
  upsertTasks(
    database,
    days.map((day) => taskRetried({ uuid: `day ${day}`, timestamp: noon(day) })),
  );

async function partitions(): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'celery_task_event'::regclass order by 1",
  );
  return rows.map(({ name }) => name);
}

async function where(): Promise<Record<string, string>> {
  const { rows } = await client.query<{ task_id: string; name: string }>(
    "select task_id, tableoid::regclass::text as name from celery_task_event",
  );
  return Object.fromEntries(rows.map(({ task_id, name }) => [task_id, name]));
}

const DEFAULT = "celery_task_event_default";

describe("the partitions of celery_task_event", () => {
  test("exist from the migration for the coming days, and other days are in the default one", async () => {
    expect(await partitions()).toEqual([...[-1, 0, 1, 2, 3].map(nameOf), DEFAULT].sort());
    await store(-40, 0, 1, 9);
    expect(await where()).toEqual({ "day -40": DEFAULT, "day 0": nameOf(0), "day 1": nameOf(1), "day 9": DEFAULT });
    expect(await maintainPartitions(database, 0)).toEqual({ created: 0, dropped: 0 });
    expect(Object.keys(await where())).toHaveLength(4);
  });

  test("are created ahead, with what was in the default one", async () => {
    await client.query(`drop table ${nameOf(1)}; drop table ${nameOf(2)}`);
    await store(1, 2, 3);
    expect((await where())["day 1"]).toBe(DEFAULT);
    expect(await maintainPartitions(database, 30)).toEqual({ created: 2, dropped: 0 });
    expect(await where()).toEqual({ "day 1": nameOf(1), "day 2": nameOf(2), "day 3": nameOf(3) });
    await store(1, 2, 3);
    expect(Object.keys(await where())).toHaveLength(3);
  });

  test("are dropped once they are old, and old events leave the default one", async () => {
    for (const day of [-8, -7]) {
      const [from, to] = [day, day + 1].map((days) => new Date((noon(days) - DAY / 2) * 1_000).toISOString());
      await client.query(`create table ${nameOf(day)} partition of celery_task_event for values from ('${from}') to ('${to}')`);
    }
    await store(-40, -8, -7, -3, 0);
    expect(await maintainPartitions(database, 7)).toEqual({ created: 0, dropped: 1 });
    expect(await where()).toEqual({ "day -7": nameOf(-7), "day -3": DEFAULT, "day 0": nameOf(0) });
    expect(await maintainPartitions(database, 0)).toEqual({ created: 0, dropped: 0 });
  });

  test("are left to a process that is already at work", async () => {
    await client.query(`drop table ${nameOf(1)}`);
    await client.query("select pg_advisory_lock($1, 'celery_task_event'::regclass::oid::int)", [ADVISORY_LOCKS.partitions]);
    expect(await maintainPartitions(database, 30)).toEqual({ created: 0, dropped: 0 });
    await client.query("select pg_advisory_unlock_all()");
    expect(await maintainPartitions(database, 30)).toEqual({ created: 1, dropped: 0 });
  });

  test("can be created while batches are stored", async () => {
    const stop = new AbortController();
    const storing = (async (): Promise<void> => {
      while (!stop.signal.aborted) await store(0);
    })();
    for (let round = 0; round < 5; round++) {
      await client.query(`drop table ${nameOf(3)}`);
      expect(await maintainPartitions(database, 30)).toEqual({ created: 1, dropped: 0 });
    }
    stop.abort();
    await expect(storing).resolves.toBeUndefined();
  });

  test("are managed by a function that only its owner and those he names may execute", async () => {
    await client.query(
      "create role guest login; grant usage on schema public to guest; grant temp on database " +
        new URL(created.url).pathname.slice(1) +
        " to guest",
    );
    try {
      await client.query("set role guest");
      await expect(client.query("select celery_task_event_partitions(1, 1)")).rejects.toThrow(/permission denied for function/);
      await client.query("reset role; grant execute on function celery_task_event_partitions to guest; set role guest");
      // A table of the caller does not take the place of ours.
      await client.query("create temp table celery_task_event_default (at timestamptz)");
      await expect(client.query("select celery_task_event_partitions(30, 4)")).resolves.toMatchObject({
        rows: [{ celery_task_event_partitions: "(1,0)" }],
      });
      await client.query("reset role");
      expect(await partitions()).toContain(nameOf(4));
    } finally {
      await client.query("reset role; drop owned by guest; drop role guest");
    }
  });

  test("are checked at the start without a change", async () => {
    await client.query(`drop table ${nameOf(1)}`);
    await checkMayMaintainPartitions(database);
    expect(await partitions()).not.toContain(nameOf(1));
    await client.query("drop function celery_task_event_partitions");
    await expect(checkMayMaintainPartitions(database)).rejects.toThrow(/not migrated/);
  });
});

test("an embedded database has partitions too", async () => {
  const embedded = await connectDatabase({ url: "pglite:memory" });
  try {
    await upsertTasks(embedded, [taskRetried({ timestamp: noon(0) })]);
    await embedded.drizzle.execute(`drop table ${nameOf(1)}`);
    expect(await maintainPartitions(embedded, 30)).toEqual({ created: 1, dropped: 0 });
  } finally {
    await embedded.close();
  }
}, 120_000);
