/** A migrated database for a test file, and its rows in a form comparable to `TaskRow`. */
import { createDatabase, type TestDatabase } from "@celery-metrics-exporter/testkit";
import { getTableColumns, sql } from "drizzle-orm";
import { afterAll, beforeAll, beforeEach } from "vitest";
import { connectDatabase } from "../src/connect/connect-database.ts";
import { query, type Database } from "../src/tables/database.ts";
import { migrate } from "../src/migrate/migrate.ts";
import { celeryTask, celeryTaskEvent } from "../src/tables/schema.ts";
import type { TaskRow } from "../src/merge/task-row.ts";

/** Instants are in microseconds, as in `TaskRow`. NULL is absent. */
export interface StoredRow extends Partial<Omit<TaskRow, "task_id">> {
  readonly task_id: string;
  readonly finished_at?: number;
  readonly wait_time?: number;
  readonly duration?: number;
  readonly seen_at?: number;
  readonly problem?: string;
}

export interface TaskTable {
  readonly database: Database;
  readonly url: string;
  /** Rows by task id, without the columns that depend on the order of the events. */
  rows(): Promise<Record<string, StoredRow>>;
}

/** Creates one database for the test file. Its table is emptied before each test. */
export function useTaskTable(): TaskTable {
  let created: TestDatabase | undefined;
  let database: Database | undefined;

  const current = (): Database => {
    if (database === undefined) throw new Error("only inside tests");
    return database;
  };

  beforeAll(async () => {
    created = await createDatabase();
    await migrate(created.url);
    database = await connectDatabase({ url: created.url, poolSize: 8 });
  });
  beforeEach(() => clear(current()));
  afterAll(async () => {
    await database?.close();
    await created?.drop();
  });

  return {
    get database() {
      return current();
    },
    get url() {
      return created?.url ?? "";
    },
    rows: () => readRows(current()),
  };
}

export async function clear(database: Database): Promise<void> {
  await query(database, sql`truncate ${celeryTask}, ${celeryTaskEvent}`);
}

const NOT_MERGED: ReadonlySet<string> = new Set(["created_at", "updated_at", "seen_before", "left_out"]);
const columns = Object.values(getTableColumns(celeryTask)).filter(({ name }) => !NOT_MERGED.has(name));

export async function readRows(database: Database): Promise<Record<string, StoredRow>> {
  const selected = columns.map((column) =>
    column.getSQLType() === "timestamp with time zone"
      ? sql`(extract(epoch from ${column}) * 1000000)::double precision as ${sql.identifier(column.name)}`
      : sql`${column}`,
  );
  const rows = await query<StoredRow>(database, sql`select ${sql.join(selected, sql`, `)} from ${celeryTask}`);
  return Object.fromEntries(rows.map((row) => [row.task_id, withoutAbsent(row)]));
}

/** Makes a row from Postgres (NULL) equal to one in memory (undefined). */
export function withoutAbsent<R extends object>(row: R): R {
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== undefined && value !== null)) as R;
}
