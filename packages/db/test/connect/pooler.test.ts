import { type PostgresServer, startPostgres } from "@celery-metrics-exporter/testkit";
import { taskReceived, taskSent } from "@celery-metrics-exporter/celery/testing";
import { sql } from "drizzle-orm";
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { checkMigrated, migrate } from "../../src/migrate/migrate.ts";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { query } from "../../src/tables/database.ts";
import { upsertTasks } from "../../src/merge/upsert.ts";
import { rollUp } from "../../src/rollups/roll-up.ts";
import { type Pooler, startPooler } from "../pooler.ts";

let server: PostgresServer;
let pooler: Pooler;

beforeAll(async () => {
  server = await startPostgres({ durable: false });
});
afterAll(() => server.stop());
beforeEach(async () => {
  await onServer("create database pooled");
  pooler = await startPooler(databaseUrl());
});
afterEach(async () => {
  pooler.stop();
  await onServer("drop database pooled with (force)");
});

function databaseUrl(): string {
  return server.url.replace(/\/postgres$/, "/pooled");
}

async function onServer(statement: string): Promise<void> {
  const client = new Client(server.url);
  await client.connect();
  await client.query(statement).finally(() => client.end());
}

const LEFT =
  "select concat_ws('|', (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'), current_setting('lock_timeout'), current_setting('statement_timeout'))";

describe("behind a connection pooler", () => {
  test("migrate leaves neither its lock nor a setting on the session, and the next migration can start at once", async () => {
    await migrate(pooler.url);
    expect(new Set(await pooler.ask(LEFT))).toEqual(new Set(["0|0|0"]));
    await migrate(databaseUrl(), { waitMs: 0 });
  });

  test("each statement has the time limit that the session cannot have", async () => {
    await migrate(databaseUrl());
    const database = await connectDatabase({ url: pooler.url, poolSize: 1, statementTimeoutMs: 300 });
    try {
      await checkMigrated(database);
      await expect(query(database, sql`select pg_sleep(20)`)).rejects.toThrow(/57014/);
      expect(await upsertTasks(database, [taskSent()])).toBe(1);
      expect(await query(database, sql`select count(*)::int as rows from celery_task`)).toEqual([{ rows: 1 }]);
    } finally {
      await database.close();
    }
    expect(new Set(await pooler.ask(LEFT))).toEqual(new Set(["0|0|0"]));
  });

  test("a transaction of several statements is one, and leaves no lock", async () => {
    await migrate(databaseUrl());
    const database = await connectDatabase({ url: pooler.url, poolSize: 2, statementTimeoutMs: 3_000 });
    try {
      await upsertTasks(database, [taskSent()]);
      expect(await rollUp(database)).toBe(1);
      await upsertTasks(database, [taskReceived()]);
      await query(database, sql`alter table celery_rollup rename to moved`);
      await expect(rollUp(database, { all: true })).rejects.toThrow(/celery_rollup/);
      expect(await query(database, sql`select count(*)::int as kept from celery_task_minute_dirty`), "rolled back").toEqual([{ kept: 1 }]);
    } finally {
      await database.close();
    }
    expect(new Set(await pooler.ask(LEFT))).toEqual(new Set(["0|0|0"]));
  });

  test("a lost connection affects only its statement", async () => {
    const database = await connectDatabase({ url: pooler.url, poolSize: 1 });
    try {
      await expect(query(database, sql`select pg_terminate_backend(pg_backend_pid())`)).rejects.toThrow(/is unavailable/);
      expect(await query(database, sql`select 1 as one`)).toEqual([{ one: 1 }]);
    } finally {
      await database.close();
    }
  });

  test("a schema in the URL is rejected at once, with the way to set it", async () => {
    const url = `${pooler.url}?options=-c%20search_path%3Db`;
    for (const work of [() => migrate(url), () => connectDatabase({ url, startupTimeoutMs: 60_000 })]) {
      await expect(work()).rejects.toThrow(/unsupported startup parameter: options.*ALTER ROLE … SET search_path/);
    }
  });
});
