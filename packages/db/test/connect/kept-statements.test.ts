import { type PostgresServer, startPostgres } from "@celery-metrics-exporter/testkit";
import { taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { createLogger } from "@celery-metrics-exporter/runtime";
import { sql } from "drizzle-orm";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { migrate } from "../../src/migrate/migrate.ts";
import { type Database, query } from "../../src/tables/database.ts";
import { upsertTasks } from "../../src/merge/upsert.ts";
import { mergeListened } from "../../src/workers/merge-workers.ts";

let server: PostgresServer;
let database: Database;
let messages: string[];

beforeAll(async () => {
  server = await startPostgres({ durable: false });
  await migrate(server.url);
});
afterAll(() => server.stop());
beforeEach(async () => {
  messages = [];
  const logger = createLogger("test", "info", { write: (line) => void messages.push(line) });
  database = await connectDatabase({ url: server.url, poolSize: 1, logger });
  await query(database, sql`truncate celery_task`);
  return () => database.close();
});

function kept(): Promise<readonly { uses: number }[]> {
  return query<{ uses: number }>(database, sql`select (generic_plans + custom_plans)::int as uses from pg_prepared_statements`);
}

async function stored(): Promise<readonly unknown[]> {
  return query(database, sql`select task_id, status from celery_task order by 1`);
}

test("PostgreSQL keeps the upsert for the connection, and plans it a few times at most", async () => {
  for (let index = 0; index < 20; index += 1) await upsertTasks(database, [taskSent({ uuid: `t${index}` })]);
  expect(await kept()).toEqual([{ uses: 20 }]);
  const [row] = await query<{ custom: number }>(database, sql`select custom_plans::int as custom from pg_prepared_statements`);
  expect(row?.custom).toBeLessThan(10);
});

test("that a receiver listened is stored with a statement that is kept too", async () => {
  for (let index = 1; index <= 3; index += 1)
    await mergeListened(database, [{ type: "listened", source: "a", since: 0, timestamp: index }]);
  expect(await kept()).toEqual([{ uses: 3 }]);
  expect(await query(database, sql`select date_part('epoch', until) as until from celery_listening`)).toEqual([{ until: 3 }]);
});

test("each kind of history has a statement of its own", async () => {
  for (const history of ["all", "off", "unusual"] as const) await upsertTasks(database, [taskSent({ uuid: history })], history);
  expect(new Set((await kept()).map(({ uses }) => uses))).toEqual(new Set([1, 2]));
});

test("a session that has lost the statement, as behind some poolers, loses no task, and later statements are sent whole", async () => {
  await upsertTasks(database, [taskSent({ uuid: "before" })]);
  await query(database, sql`deallocate all`);
  await upsertTasks(database, [taskStarted({ uuid: "lost" })]);
  await upsertTasks(database, [taskSucceeded({ uuid: "after" })]);
  expect(await stored()).toEqual([
    { task_id: "after", status: "SUCCESS" },
    { task_id: "before", status: "PENDING" },
    { task_id: "lost", status: "STARTED" },
  ]);
  expect(await kept()).toEqual([]);
  expect(messages.filter((line) => line.includes("does not keep prepared statements"))).toHaveLength(1);
});

test("a session in which another client has prepared the same statement stores too", async () => {
  await upsertTasks(database, [taskSent({ uuid: "before" })]);
  const [name] = await query<{ name: string; statement: string }>(database, sql`select name, statement from pg_prepared_statements`);
  const other = await connectDatabase({ url: server.url, poolSize: 1 });
  try {
    await query(other, sql.raw(`prepare "${name?.name}" as select 1`));
    await upsertTasks(other, [taskSent({ uuid: "twice" })]);
  } finally {
    await other.close();
  }
  expect(await stored()).toHaveLength(2);
});

test("without a time limit of the session, which a pooler would refuse, nothing is kept", async () => {
  const unlimited = await connectDatabase({ url: server.url, poolSize: 1, statementTimeoutMs: 0 });
  try {
    await upsertTasks(unlimited, [taskSent()]);
    expect(await query(unlimited, sql`select name from pg_prepared_statements`)).toEqual([]);
  } finally {
    await unlimited.close();
  }
});
