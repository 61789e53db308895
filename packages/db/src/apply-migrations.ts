/**
 * Applies the migrations within a transaction, and checks that the tables are there afterwards. Drizzle's own migrator keeps one list of
 * migrations for the whole database, which a second schema and other programs share, and looks at nothing else.
 */
import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { getTableName, is, sql } from "drizzle-orm";
import { readMigrationFiles } from "drizzle-orm/migrator";
import { PgTable, getTableConfig } from "drizzle-orm/pg-core";
import { DATABASE_FACTS_STATEMENT, databaseProblem, type DatabaseFacts } from "./database-problem.ts";
import { faultOf } from "./database-error.ts";
import { execute, type Drizzle } from "./database.ts";
import { MigrationJournal } from "./migration-journal.ts";
import { MIGRATIONS_FOLDER } from "./migrations-folder.ts";
import * as schemaModule from "./schema.ts";
import { upsertStatement } from "./upsert-tasks.ts";

const TABLES = Object.values<unknown>(schemaModule)
  .filter((value) => is(value, PgTable))
  .map(getTableConfig);

export const TABLE_NAMES = TABLES.map(({ name }) => name);

/** Thrown when the tables are not what the migrations make of them. The message is a clause that says what to do. */
export class MigrationProblem extends UnavailableError {}

/**
 * Brings the tables up to date, in the first schema of `search_path`.
 *
 * @returns that schema.
 * @throws {MigrationProblem} when success would not be true. Roll the transaction back, as for any other error.
 */
export async function applyMigrations(transaction: Drizzle): Promise<string> {
  await checkServer(transaction);
  const schema = await findSchema(transaction);
  const all = readMigrationFiles({ migrationsFolder: MIGRATIONS_FOLDER });
  const journal = new MigrationJournal(transaction, schema);
  const applied = await journal.read(all, (await columnsOf(transaction, schema)).size === 0);
  for (const migration of all) {
    if (applied.has(migration.folderMillis)) continue;
    for (const statement of migration.sql) await execute(transaction, sql.raw(statement));
    await journal.add(migration);
  }
  await checkTables(transaction, schema);
  return schema;
}

async function checkServer(transaction: Drizzle): Promise<void> {
  const [facts] = await execute<DatabaseFacts>(transaction, sql.raw(DATABASE_FACTS_STATEMENT));
  const problem = facts && databaseProblem(facts);
  if (problem !== undefined) throw new MigrationProblem(problem);
}

/** Where a new table goes; refuses where the roles would use another schema's. */
async function findSchema(transaction: Drizzle): Promise<string> {
  const [place] = await execute<{ schema: string | null; path: string; used: string | null }>(
    transaction,
    sql`select current_schema()::text as schema, current_setting('search_path') as path,
          (select nspname::text from pg_class join pg_namespace n on n.oid = relnamespace
           where pg_class.oid = to_regclass(${TABLE_NAMES[0]}::text)) as used`,
  );
  if (place?.schema == null) {
    throw new MigrationProblem(`search_path (${place?.path ?? ""}) names no schema that exists and that we may use; create it first`);
  }
  const { schema, path, used } = place;
  if (used !== null && used !== schema) {
    throw new MigrationProblem(
      `search_path (${path}) leads to the table in schema ${used}, but would put a new one into ${schema}; name one of the two, such as ?options=-c search_path=${used}`,
    );
  }
  return schema;
}

/** The columns of those of our tables that are in the schema. */
async function columnsOf(transaction: Drizzle, schema: string): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
  const rows = await execute<{ table: string; columns: string[] }>(
    transaction,
    sql`select relname::text as "table", array_agg(attname::text) as columns
        from pg_class c join pg_namespace n on n.oid = relnamespace join pg_attribute on attrelid = c.oid
        where nspname = ${schema} and relname = any(${sql.param(TABLE_NAMES)}::text[]) and attnum > 0 and not attisdropped
        group by relname`,
  );
  return new Map(rows.map(({ table, columns }) => [table, new Set(columns)]));
}

async function checkTables(transaction: Drizzle, schema: string): Promise<void> {
  const present = await columnsOf(transaction, schema);
  for (const { name, columns } of TABLES) {
    const missing = columns.map((column) => column.name).filter((column) => present.get(name)?.has(column) !== true);
    if (missing.length > 0) throw new MigrationProblem(incomplete(schema, name, `lacks ${missing.join(", ")}`));
  }
  try {
    // PostgreSQL checks types and keys.
    await execute(transaction, upsertStatement([]));
  } catch (thrown) {
    const { fault, reason } = faultOf(thrown);
    if (fault !== "unmigrated") throw thrown;
    throw new MigrationProblem(incomplete(schema, getTableName(schemaModule.celeryTask), `does not take our statement (${reason})`));
  }
}

function incomplete(schema: string, table: string, fault: string): string {
  return (
    `the table ${table} in schema ${schema} ${fault}, although all migrations are applied; somebody changed it, or restored an older one. ` +
    `Repair it, or move it out of the way (CREATE SCHEMA aside; ALTER TABLE ${table} SET SCHEMA aside) and migrate again`
  );
}
