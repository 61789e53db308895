import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { type TestDatabase, createDatabase } from "@celery-metrics-exporter/testkit";
import { taskSent } from "@celery-metrics-exporter/celery/testing";
import { drizzle } from "drizzle-orm/node-postgres";
import { migrate as drizzleMigrate } from "drizzle-orm/node-postgres/migrator";
import { readMigrationFiles } from "drizzle-orm/migrator";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ADVISORY_LOCKS } from "../../src/migrate/locks.ts";
import { checkMigrated, migrate } from "../../src/migrate/migrate.ts";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import type { Database } from "../../src/tables/database.ts";
import { JOURNAL, MIGRATIONS_FOLDER } from "../../src/migrate/apply-migrations.ts";
import { upsertTasks } from "../../src/merge/upsert.ts";

const MIGRATIONS = readMigrationFiles({ migrationsFolder: MIGRATIONS_FOLDER });

let created: TestDatabase;
let url = "";
let database: Database;

beforeEach(async () => {
  created = await createDatabase();
  url = created.url;
  database = await connectDatabase({ url });
});
afterEach(async () => {
  await database.close();
  await created.drop();
});

async function connect(applicationName: string): Promise<Client> {
  const client = new Client({ connectionString: url, application_name: applicationName });
  await client.connect();
  return client;
}

/** Migrates like a release that had only this many migrations. */
async function migrateUpTo(count: number, schema = "public"): Promise<void> {
  const earlier = await mkdtemp(join(tmpdir(), "cme-earlier-"));
  await cp(MIGRATIONS_FOLDER, earlier, { recursive: true });
  const journal = JSON.parse(await readFile(join(earlier, "meta/_journal.json"), "utf8")) as { entries: unknown[] };
  await writeFile(join(earlier, "meta/_journal.json"), JSON.stringify({ ...journal, entries: journal.entries.slice(0, count) }));
  const client = await connect("earlier version");
  await client.query(`set search_path = ${schema}`);
  await drizzleMigrate(drizzle({ client }), { migrationsFolder: earlier });
  await client.end();
  await rm(earlier, { recursive: true });
}

async function ask(statement: string): Promise<Record<string, unknown>[]> {
  const client = await connect("test");
  try {
    return (await client.query<Record<string, unknown>>(statement)).rows;
  } finally {
    await client.end();
  }
}

describe("migrate", () => {
  test("creates the table, and does nothing the second time", async () => {
    await migrate(url);
    await upsertTasks(database, [taskSent()]);
    await migrate(url);
    expect(await ask("select count(*)::int as rows from celery_task")).toEqual([{ rows: 1 }]);
  });

  test("runs once when several processes start it at the same time", async () => {
    await Promise.all(Array.from({ length: 5 }, () => migrate(url)));
    const [applied] = await ask(`select count(*)::int as applied, count(distinct hash)::int as distinct from ${JOURNAL}`);
    expect(applied).toEqual({ applied: MIGRATIONS.length, distinct: MIGRATIONS.length });
    await expect(checkMigrated(database)).resolves.toBeUndefined();
  });

  test("leaves room in the table's pages for HOT updates", async () => {
    await migrate(url);
    const [row] = await ask("select reloptions from pg_class where relname = 'celery_task'");
    expect(row?.["reloptions"]).toContain("fillfactor=60");
  });

  test("notes the minutes of the tasks that are there, so that they are counted", async () => {
    await migrateUpTo(MIGRATIONS.length - 1);
    await ask(`insert into celery_task (task_id, status, sent_at, last_event_at, state_precedence, state_rank, state_at, state_hostname)
      select i::text, 'PENDING', at, at, 0, 0, at, 'w' from generate_series(1, 600) i cross join lateral (select timestamptz '2026-01-01 00:00:10+00' + i * interval '17 minutes 30 seconds' as at) x`);
    await migrate(url);
    const minutes = await ask("select minute::text from celery_task_minute_dirty order by 1");
    expect(minutes).toEqual(await ask("select distinct date_trunc('minute', seen_at, 'UTC')::text as minute from celery_task order by 1"));
    expect(minutes.length).toBe(600);
  });

  test("reports an unreachable server, without the password", async () => {
    const failure = migrate("postgres://someone:hunter2@127.0.0.1:9/celery").catch((thrown: unknown) => thrown);
    expect(await failure).toBeInstanceOf(UnavailableError);
    expect(String(await failure)).toMatch(/127\.0\.0\.1:9\/celery.*ECONNREFUSED/);
    expect(String(await failure)).not.toContain("hunter2");
  });
});

describe("a concurrent migration", () => {
  test("waits while another runs, reports which, and continues when that ends", async () => {
    const other = await connect("other migration");
    await other.query("select pg_advisory_lock($1)", [ADVISORY_LOCKS.migrate]);
    const waits: string[] = [];
    const onWait = (message: string): void => {
      waits.push(message);
      void other.query("select pg_advisory_unlock($1)", [ADVISORY_LOCKS.migrate]);
    };
    await migrate(url, { onWait }).finally(() => other.end());
    expect(waits).toEqual([
      expect.stringMatching(
        /^Waiting for another migration, run by PostgreSQL process \d+ \(other migration, user \w+, idle, since .*\)\.$/,
      ),
    ]);
  });

  test("gives up after a while, and names the holder of the lock", async () => {
    const other = await connect("left behind");
    await other.query("select pg_advisory_lock($1)", [ADVISORY_LOCKS.migrate]);
    const [{ pid }] = (await other.query<{ pid: number }>("select pg_backend_pid() as pid")).rows as [{ pid: number }];
    await expect(migrate(url, { waitMs: 100 }).finally(() => other.end())).rejects.toMatchObject({
      code: "ERR_UNAVAILABLE",
      message: expect.stringMatching(new RegExp(`another migration.*process ${pid} \\(left behind.*pg_terminate_backend`)) as string,
    });
  });

  test("does not wait long for a table in use, and names its user", async () => {
    await migrate(url);
    await ask(`delete from ${JOURNAL} where created_at > ${MIGRATIONS[0]?.folderMillis ?? 0}`);
    const other = await connect("long report");
    await other.query("begin; lock table celery_task in share update exclusive mode");
    await expect(migrate(url, { tableWaitMs: 2_000 }).finally(() => other.end())).rejects.toThrow(
      /lock timeout.*SQLSTATE 55P03.*in use: we waited for PostgreSQL process \d+ \(long report, user \w+, idle in transaction, since [^;]*\. End that/,
    );
  });

  test("does not name sessions that waited behind it", async () => {
    await migrate(url);
    await ask(`delete from ${JOURNAL} where created_at > ${MIGRATIONS[1]?.folderMillis ?? 0}`);
    await ask("alter table celery_task drop column duration");
    const [report, reader] = [await connect("long report"), await connect("reader")];
    try {
      await report.query("begin; select count(*) from celery_task");
      const failure = migrate(url, { tableWaitMs: 2_000 }).catch((thrown: unknown) => String(thrown));
      const waiting = "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
      await expect.poll(() => ask(waiting)).toHaveLength(1);
      await reader.query("begin; select count(*) from celery_task");
      const message = await failure;
      expect(message).toMatch(/in use: we waited for PostgreSQL process \d+ \(long report/);
      expect(message).not.toMatch(/reader/);
    } finally {
      await Promise.all([report.end(), reader.end()]);
    }
  });
});

describe("after migrate, the table exists", () => {
  test("in each of two schemas", async () => {
    await ask("create schema a; create schema b");
    const inSchema = (schema: string): string => `${url}?options=-c%20search_path%3D${schema}`;
    expect(await Promise.all(["a", "b"].map((schema) => migrate(inSchema(schema))))).toEqual(["a", "b"]);
    expect(await migrate(url)).toBe("public");
    for (const schema of ["a", "b", "public"]) {
      const connected = await connectDatabase({ url: inSchema(schema) });
      await expect(upsertTasks(connected, [taskSent()]).finally(() => connected.close())).resolves.toBe(1);
    }
    expect(await ask("select schemaname from pg_tables where tablename = 'celery_task' order by 1")).toEqual([
      { schemaname: "a" },
      { schemaname: "b" },
      { schemaname: "public" },
    ]);
  });

  test.each([
    ["it was dropped", "drop table celery_task"],
    ["that of the events was not restored", `drop table celery_task_event, ${JOURNAL}`],
    ["it was moved away", "create schema aside; alter table celery_task set schema aside"],
    ["another table of ours was dropped", "drop table celery_worker, celery_rollup"],
    ["its list of migrations was dropped", `drop table ${JOURNAL}`],
    ["its list of migrations was emptied", `delete from ${JOURNAL}`],
  ])("although %s", async (_what, change) => {
    await migrate(url);
    await ask(change);
    await migrate(url);
    await expect(checkMigrated(database)).resolves.toBeUndefined();
    expect(await ask(`select count(*)::int as noted from ${JOURNAL}`)).toEqual([{ noted: MIGRATIONS.length }]);
  });

  test("although another program uses Drizzle's table for its own migrations", async () => {
    await ask(
      "create schema drizzle; create table drizzle.__drizzle_migrations (id serial primary key, hash text not null, created_at bigint)",
    );
    await ask("insert into drizzle.__drizzle_migrations (hash, created_at) values ('theirs', 9999999999999)");
    await migrate(url);
    await expect(checkMigrated(database)).resolves.toBeUndefined();
    expect(await ask("select hash from drizzle.__drizzle_migrations")).toEqual([{ hash: "theirs" }]);
  });

  test.each([["public"], ["mon"]])("if an earlier version created it, in the schema %s", async (schema) => {
    await ask(`create schema if not exists ${schema}`);
    await migrateUpTo(1, schema);
    const upgraded = `${url}?options=-c%20search_path%3D${schema}`;
    await migrate(upgraded);
    expect(await ask(`select created_at::float8 as at from ${schema}.${JOURNAL} order by 1`)).toEqual(
      MIGRATIONS.map(({ folderMillis: at }) => ({ at })),
    );
    expect(await ask("select reloptions::text like '%fillfactor%' as later from pg_class where relname = 'celery_task'")).toEqual([
      { later: true },
    ]);
  });

  test.each([
    ["a column was dropped", "alter table celery_task drop column worker_rank, drop column result", /lacks result, worker_rank, although/],
    [
      "a column has another type",
      "alter table celery_task alter column args_json type text",
      /has args_json as text instead of jsonb, although all migrations are applied;.*SET SCHEMA aside/,
    ],
    [
      "a column is no longer generated",
      "alter table celery_task alter column duration drop expression",
      /has duration as double precision instead of double precision GENERATED, although/,
    ],
    [
      "columns of another table",
      "alter table celery_task drop column wait_time, drop column finished_at; alter table celery_task add wait_time int, add finished_at text",
      /has finished_at as text instead of timestamp with time zone GENERATED, has wait_time as integer instead of double precision GENERATED/,
    ],
    [
      "the id has another collation",
      "alter table celery_task alter column task_id type text",
      /has task_id as text NOT NULL instead of text COLLATE "C" NOT NULL/,
    ],
    [
      "a default was dropped",
      "alter table celery_task alter created_at drop default",
      /has created_at as .* zone NOT NULL instead of .* DEFAULT NOT NULL/,
    ],
    ["NULL is allowed", "alter table celery_task alter status drop not null", /has status as text instead of text NOT NULL/],
    ["an index was dropped", "drop index celery_task_seen_at_idx", /lacks an index on seen_at, task_id, although/],
    ["a partial index was dropped", "drop index celery_task_problem_idx", /lacks a partial index on problem, seen_at, task_id, although/],
    [
      "the index is only of some rows",
      "drop index celery_task_seen_at_idx; create index on celery_task (seen_at, task_id) where status = 'FAILURE'",
      /lacks an index on seen_at, task_id, although/,
    ],
    [
      "a function was dropped",
      "drop function celery_task_event_partitions",
      /celery_task_event in schema public lacks its function celery_task_event_partitions\(integer, integer\), although/,
    ],
    [
      "an index of another table was dropped",
      "drop index celery_task_minute_name_idx",
      /celery_task_minute .*lacks an index on name, minute, although/,
    ],
    ["a partial index was dropped", "drop index celery_task_problem_idx", /lacks a partial index on problem, seen_at, task_id, although/],
    [
      "the key is gone",
      "alter table celery_task drop constraint celery_task_pkey",
      /does not accept our statement \(.*SQLSTATE 42P10\).*SET SCHEMA aside/,
    ],
    [
      "a damaged table was restored",
      `drop table ${JOURNAL}; alter table celery_task drop column worker_rank`,
      /lacks worker_rank, and migrations were not applied, because their objects already exist \(relation "celery_task" already exists \(SQLSTATE 42P07\);/,
    ],
  ])("or it reports the problem: %s", async (_what, change, message) => {
    await migrate(url);
    await ask(change);
    await expect(migrate(url)).rejects.toThrow(message);
  });

  test("although an older table was restored without its list: it is brought up to date", async () => {
    await migrateUpTo(2);
    await ask(`drop table if exists ${JOURNAL}; drop schema if exists drizzle cascade`);
    await migrate(url);
    await expect(checkMigrated(database)).resolves.toBeUndefined();
    expect(await ask(`select count(*)::int as noted from ${JOURNAL}`)).toEqual([{ noted: MIGRATIONS.length }]);
  });

  test("although its list lacks a migration", async () => {
    await migrate(url);
    await ask(`delete from ${JOURNAL} where created_at = ${MIGRATIONS[0]?.folderMillis ?? 0}`);
    await migrate(url);
    expect(await ask(`select count(*)::int as noted from ${JOURNAL}`)).toEqual([{ noted: MIGRATIONS.length }]);
  });

  test("and an index with another name suffices", async () => {
    await migrate(url);
    await ask("drop index celery_task_seen_at_idx; create index mine on celery_task (seen_at, task_id, status)");
    await expect(migrate(url)).resolves.toBe("public");
  });

  test("or it names the existing objects, and succeeds when they are gone", async () => {
    await migrateUpTo(2);
    await ask("alter table celery_task add duration interval");
    const message =
      /lacks first_name, first_queue, .*has duration as interval instead of double precision GENERATED, and migrations were not applied, because their objects already exist \((relation "celery_task" already exists \(SQLSTATE 42P07\); )?column "duration" of relation "celery_task" already exists \(SQLSTATE 42701\)\)\. .*rename or drop objects that are not ours/;
    await expect(migrate(url)).rejects.toThrow(message);
    await ask(`drop table if exists ${JOURNAL}`);
    await expect(migrate(url)).rejects.toThrow(message);
    await ask("alter table celery_task rename duration to ours");
    await migrate(url);
    await expect(checkMigrated(database)).resolves.toBeUndefined();
  });

  test.each([
    ["table", "create table celery_task (id int)"],
    ["view", "create view celery_task as select 1 as id"],
  ])("or it reports that a %s of another program has the name", async (_kind, statement) => {
    await ask(statement);
    const message =
      /the table celery_task in schema public lacks task_id, name, queue, first_name and \d+ more columns, .*and migrations were not applied, because their objects already exist \(relation "celery_task" already exists \(SQLSTATE 42P07\)\)\. .*move it out of the way/;
    await expect(migrate(url)).rejects.toThrow(message);
    expect(await ask(`select to_regclass('${JOURNAL}') as journal`)).toEqual([{ journal: null }]);
    await ask("create schema aside");
    await ask(`alter table celery_task set schema aside`);
    await expect(migrate(url)).resolves.toBe("public");
  });

  test("or it reports that a view depends on the table", async () => {
    await migrateUpTo(2);
    await ask("create view waits as select wait_time from celery_task");
    await expect(migrate(url)).rejects.toThrow(
      /cannot drop column wait_time .* \(SQLSTATE 2BP01\)\. Drop the views that use it, and recreate/,
    );
  });

  test.each([
    ["My Schema", "%22My%5C%20Schema%22"],
    ['a"\\&b', "%22a%22%22%5C%5C%26b%22"],
  ])("or it says which of two schemas to set, in the form for a URL: %s", async (schema, setting) => {
    const quoted = `"${schema.replaceAll('"', '""')}"`;
    await ask(`create schema ${quoted}`);
    const given = `${url}?options=-c search_path=${setting}`;
    expect(await migrate(given)).toBe(schema);
    const [{ name } = { name: "" }] = await ask("select current_database() as name");
    await ask(`alter database ${String(name)} set search_path = public, ${quoted}`);
    await expect(migrate(url)).rejects.toThrow(`for example with ?options=-c search_path=${setting}`);
  });

  test("or it reports that a search path leads to two schemas", async () => {
    await migrate(url);
    await ask("create schema b");
    await expect(migrate(`${url}?options=-c%20search_path%3Db,public`)).rejects.toThrow(
      /leads to the table in schema public.*search_path=public/,
    );
  });

  test.each([
    ["a schema that does not exist", "search_path%3Dnowhere", /search_path \(nowhere\) contains no existing schema/],
    ["a user who may only read", "default_transaction_read_only%3Don", /SQLSTATE 25006\).*set DATABASE_URL to the primary/],
  ])("or it reports a problem of the session: %s", async (_what, options, message) => {
    await expect(migrate(`${url}?options=-c%20${options}`)).rejects.toThrow(message);
  });

  test("or it reports missing rights", async () => {
    await migrate(url);
    await ask(`delete from ${JOURNAL} where created_at > ${MIGRATIONS[0]?.folderMillis ?? 0}`);
    const role = `guest_${process.pid}`;
    await ask(
      `create role ${role}; grant all on all tables in schema public to ${role}; grant all on all sequences in schema public to ${role}`,
    );
    try {
      await expect(migrate(`${url}?options=-c%20role%3D${role}`)).rejects.toThrow(
        /must be owner of table celery_task \(SQLSTATE 42501\).*owner of a table may migrate/,
      );
    } finally {
      await ask(`drop owned by ${role}; drop role ${role}`);
    }
  });
});

describe("checkMigrated", () => {
  test("names the commands to run if there is no table", async () => {
    const failure = checkMigrated(database);
    await expect(failure).rejects.toBeInstanceOf(UnavailableError);
    await expect(failure).rejects.toThrow(/not migrated.*pnpm drizzle-kit migrate.*celery-metrics-exporter migrate/s);
  });

  test.each([
    ["a column", "alter table celery_task drop column worker_rank"],
    ["the key", "alter table celery_task drop constraint celery_task_pkey"],
  ])("detects that %s is missing", async (_what, change) => {
    await migrate(url);
    await ask(change);
    await expect(checkMigrated(database)).rejects.toThrow(/not migrated.*pnpm drizzle-kit migrate/s);
  });

  test.each([
    ["the right to write", "alter role current_user set role = 'pg_monitor'", /refused access.*permission denied/s],
    ["a writable database", "alter role current_user set default_transaction_read_only = on", /is unavailable.*read-only/s],
  ])("detects that we lack %s", async (_what, change, message) => {
    await migrate(url);
    const [{ name } = { name: "" }] = await ask("select current_database() as name");
    await ask(change.replace("current_user", `current_user in database ${String(name)}`));
    const later = await connectDatabase({ url });
    try {
      await expect(checkMigrated(later)).rejects.toThrow(message);
      await expect(checkMigrated(later)).rejects.toBeInstanceOf(UnavailableError);
    } finally {
      await later.close();
    }
  });

  test("writes nothing", async () => {
    await migrate(url);
    await checkMigrated(database);
    expect(await ask("select * from celery_task")).toEqual([]);
  });
});
