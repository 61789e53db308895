import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { createDatabase, type TestDatabase } from "@celery-metrics-exporter/testkit";
import { taskSent } from "@celery-metrics-exporter/events/testing";
import { Client } from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { checkMigrated } from "../src/check-migrated.ts";
import { connectDatabase } from "../src/connect-database.ts";
import type { Database } from "../src/database.ts";
import { migrate } from "../src/migrate.ts";
import { upsertTasks } from "../src/upsert-tasks.ts";

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

async function ask(statement: string): Promise<Record<string, unknown>[]> {
  const client = new Client(url);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(statement)).rows;
  } finally {
    await client.end();
  }
}

describe("migrate", () => {
  test("makes the table, and does nothing the second time", async () => {
    await migrate(url);
    await upsertTasks(database, [taskSent()]);
    await migrate(url);
    expect(await ask("select count(*)::int as rows from celery_task")).toEqual([{ rows: 1 }]);
  });

  test("is done once when several processes start it at the same moment", async () => {
    await Promise.all(Array.from({ length: 5 }, () => migrate(url)));
    const applied = await ask("select count(*)::int as applied, count(distinct hash)::int as distinct from drizzle.__drizzle_migrations");
    expect(applied).toEqual([{ applied: 2, distinct: 2 }]);
    await expect(checkMigrated(database)).resolves.toBeUndefined();
  });

  test("leaves room in the table's pages for HOT updates", async () => {
    await migrate(url);
    const [row] = await ask("select reloptions from pg_class where relname = 'celery_task'");
    expect(row?.["reloptions"]).toContain("fillfactor=60");
  });

  test("says what is wrong when there is no server, without the password", async () => {
    const failure = migrate("postgres://someone:hunter2@127.0.0.1:9/celery").catch((thrown: unknown) => thrown);
    expect(await failure).toBeInstanceOf(UnavailableError);
    expect(String(await failure)).toMatch(/127\.0\.0\.1:9\/celery.*ECONNREFUSED/);
    expect(String(await failure)).not.toContain("hunter2");
  });
});

describe("checkMigrated", () => {
  test("names the commands to run where there is no table", async () => {
    const failure = checkMigrated(database);
    await expect(failure).rejects.toBeInstanceOf(UnavailableError);
    await expect(failure).rejects.toThrow(/not migrated.*pnpm drizzle-kit migrate.*celery-metrics-exporter migrate/s);
  });

  test.each([
    ["a column", "alter table celery_task drop column worker_rank"],
    ["the key", "alter table celery_task drop constraint celery_task_pkey"],
  ])("finds that %s is missing", async (_what, change) => {
    await migrate(url);
    await ask(change);
    await expect(checkMigrated(database)).rejects.toThrow(/not migrated.*pnpm drizzle-kit migrate/s);
  });

  test.each([
    ["the right to write", "alter role current_user set role = 'pg_monitor'", /does not let us in.*permission denied/s],
    ["a database that can be written", "alter role current_user set default_transaction_read_only = on", /does not serve.*read-only/s],
  ])("finds that we lack %s", async (_what, change, message) => {
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
