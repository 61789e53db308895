/**
 * Applies the migrations in a transaction, and then checks the tables. Drizzle's own migrator keeps one list of migrations for the whole database,
 * which a second schema and other programs share, and checks nothing else.
 */
import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { type SQL, getTableName, is, sql } from "drizzle-orm";
import { type MigrationMeta, readMigrationFiles } from "drizzle-orm/migrator";
import { type PgColumn, PgTable, getTableConfig } from "drizzle-orm/pg-core";
import { DATABASE_FACTS_STATEMENT, type DatabaseFacts, databaseProblem, faultOf } from "../connect/database-error.ts";
import { type Drizzle, execute } from "../tables/database.ts";
import * as schemaModule from "../tables/schema.ts";
import { upsertStatement } from "../merge/upsert.ts";
import { createRequire } from "node:module";
import { join } from "node:path";

const TABLES = Object.values<unknown>(schemaModule)
  .filter((value) => is(value, PgTable))
  .map(getTableConfig);

const TABLE_NAMES = TABLES.map(({ name }) => name);

const PARTITIONS_FUNCTION = "celery_task_event_partitions(integer, integer)";

/** A table, a column or another object of a migration already exists. */
const DUPLICATE = /^(42P07|42701|42710)$/;
/** A column is missing, or the object is not a table: errors of a later migration if an earlier one found another table of the same name. */
const OTHER_TABLE = /^(42703|42809|22023)$/;
/** Limit on listed columns: a table that is not ours lacks most of them. */
const MAX_MISSING_SHOWN = 5;

/** Thrown if the tables do not match the migrations. The message is a clause that says what to do. */
export class MigrationProblem extends UnavailableError {}

/**
 * Brings the tables up to date, in the first schema of `search_path`.
 *
 * @returns that schema.
 * @throws {MigrationProblem} if the tables do not match afterwards. Roll the transaction back, as for any other error.
 */
export async function applyMigrations(transaction: Drizzle): Promise<string> {
  await checkServer(transaction);
  const schema = await findSchema(transaction);
  const all = readMigrationFiles({ migrationsFolder: MIGRATIONS_FOLDER });
  const journal = new MigrationJournal(transaction, schema);
  const applied = await journal.read(!(await columnsOf(transaction, schema)).has(getTableName(schemaModule.celeryTask)));
  const inTheWay: string[] = [];
  const isListWrong = all.every(({ folderMillis }) => applied.has(folderMillis)) && (await lacksTable(transaction, schema));
  if (isListWrong) await journal.forget();
  for (const migration of all) {
    if (!isListWrong && applied.has(migration.folderMillis)) continue;
    inTheWay.push(...(await applyOrFind(transaction, migration, inTheWay.length > 0)));
    await journal.add(migration);
  }
  await checkTables(transaction, schema, inTheWay);
  return schema;
}

/**
 * Applies a migration, or finds that it was applied. A migration that is not in the list may have been applied, if only the table was restored. So if
 * its objects exist, it counts as applied, and the check at the end verifies that.
 *
 * @param isBlocked whether an earlier migration found existing objects.
 * @returns the existing objects, as the server reports them.
 */
async function applyOrFind(transaction: Drizzle, migration: MigrationMeta, isBlocked: boolean): Promise<string[]> {
  await execute(transaction, sql.raw("savepoint migration"));
  try {
    for (const statement of migration.sql) await execute(transaction, sql.raw(statement));
    await execute(transaction, sql.raw("release savepoint migration"));
    return [];
  } catch (thrown) {
    const { sqlState, reason } = faultOf(thrown);
    const isDuplicate = DUPLICATE.test(sqlState ?? "");
    if (!isDuplicate && !(isBlocked && OTHER_TABLE.test(sqlState ?? ""))) throw thrown;
    await execute(transaction, sql.raw("rollback to savepoint migration"));
    return isDuplicate ? [reason] : [];
  }
}

async function checkServer(transaction: Drizzle): Promise<void> {
  const [facts] = await execute<DatabaseFacts>(transaction, sql.raw(DATABASE_FACTS_STATEMENT));
  const problem = facts && databaseProblem(facts);
  if (problem !== undefined) throw new MigrationProblem(problem);
}

/** The schema for new tables. Throws if the roles would use a table in another schema. */
async function findSchema(transaction: Drizzle): Promise<string> {
  const [place] = await execute<{ schema: string | null; path: string; used: string | null }>(
    transaction,
    sql`select current_schema()::text as schema, current_setting('search_path') as path,
          (select nspname::text from pg_class join pg_namespace n on n.oid = relnamespace
           where pg_class.oid = to_regclass(${getTableName(schemaModule.celeryTask)}::text)) as used`,
  );
  if (place?.schema == null) {
    throw new MigrationProblem(`search_path (${place?.path ?? ""}) contains no existing schema that we may use; create one first`);
  }
  const { schema, path, used } = place;
  if (used !== null && used !== schema) {
    throw new MigrationProblem(
      `search_path (${path}) leads to the table in schema ${used}, but would put a new one into ${schema}; choose one of the two, for example with ?options=-c search_path=${inSetting(used)}`,
    );
  }
  return schema;
}

/** A schema's name as the value of a URL setting: quoted, with blanks escaped for `options`, and encoded. */
function inSetting(schema: string): string {
  if (/^[a-z_][a-z0-9_]*$/.test(schema)) return schema;
  return encodeURIComponent(`"${schema.replaceAll('"', '""')}"`.replaceAll(/[\s\\]/g, String.raw`\$&`));
}

type Columns = ReadonlyMap<string, string>;

/** The columns of our tables in the schema, with their comparable properties. */
async function columnsOf(transaction: Drizzle, schema: string): Promise<ReadonlyMap<string, Columns>> {
  const rows = await execute<{ table: string; column: string } & ColumnFacts>(
    transaction,
    sql`select relname::text as "table", attname::text as "column", format_type(atttypid, atttypmod) as type, collname::text as collation,
               attnotnull as "isRequired", attgenerated <> '' as "isGenerated", atthasdef as "hasDefault"
        from pg_class c join pg_namespace n on n.oid = relnamespace join pg_attribute on attrelid = c.oid
          left join pg_collation l on l.oid = attcollation
        where nspname = ${schema} and relname = any(${sql.param(TABLE_NAMES)}::text[]) and attnum > 0 and not attisdropped`,
  );
  const tables = new Map<string, Map<string, string>>();
  for (const { table, column, ...facts } of rows) {
    const columns = tables.get(table) ?? new Map<string, string>();
    tables.set(table, columns.set(column, describeColumn(facts)));
  }
  return tables;
}

interface ColumnFacts {
  readonly type: string;
  readonly collation: string | null;
  readonly isRequired: boolean;
  readonly isGenerated: boolean;
  readonly hasDefault: boolean;
}

function describeColumn({ type, collation, isRequired, isGenerated, hasDefault }: ColumnFacts): string {
  const shown = collation === null || collation === "default" ? type : `${type} COLLATE "${collation}"`;
  const standard = isGenerated ? " GENERATED" : hasDefault ? " DEFAULT" : "";
  return `${shown}${standard}${isRequired ? " NOT NULL" : ""}`;
}

function expectedColumn(column: PgColumn): string {
  const isGenerated = column.generated !== undefined;
  // The type may include its collation, as in the schema.
  return describeColumn({
    type: column.getSQLType(),
    collation: null,
    isRequired: column.notNull,
    isGenerated,
    hasDefault: column.hasDefault,
  });
}

/** Whether a table is missing. If all migrations are in the list, the list is then wrong: each is applied, or found. */
async function lacksTable(transaction: Drizzle, schema: string): Promise<boolean> {
  return (await columnsOf(transaction, schema)).size < TABLES.length;
}

async function checkTables(transaction: Drizzle, schema: string, inTheWay: readonly string[]): Promise<void> {
  const present = await columnsOf(transaction, schema);
  for (const table of TABLES) {
    const faults = [
      ...columnFaults(table.columns, present.get(table.name) ?? new Map<string, string>()),
      ...(await missingIndexes(transaction, schema, table)),
    ];
    if (faults.length > 0) throw new MigrationProblem(incomplete(schema, table.name, faults, inTheWay));
  }
  const functions = await execute<{ exists: boolean }>(
    transaction,
    sql`select to_regprocedure(quote_ident(${schema}) || ${`.${PARTITIONS_FUNCTION}`}) is not null as exists`,
  );
  if (functions[0]?.exists !== true) {
    const { name } = getTableConfig(schemaModule.celeryTaskEvent);
    throw new MigrationProblem(incomplete(schema, name, [`lacks its function ${PARTITIONS_FUNCTION}`], inTheWay));
  }
  try {
    // Makes PostgreSQL check the key.
    await execute(transaction, upsertStatement([], "all"));
  } catch (thrown) {
    const { fault, reason } = faultOf(thrown);
    if (fault !== "unmigrated") throw thrown;
    const faults = [`does not accept our statement (${reason})`];
    throw new MigrationProblem(incomplete(schema, getTableName(schemaModule.celeryTask), faults, inTheWay));
  }
}

function columnFaults(columns: readonly PgColumn[], present: Columns): string[] {
  const missing = columns.filter(({ name }) => !present.has(name)).map(({ name }) => name);
  const others = columns.flatMap((column) => {
    const found = present.get(column.name) ?? "";
    const expected = expectedColumn(column);
    return found === "" || found === expected ? [] : [`has ${column.name} as ${found} instead of ${expected}`];
  });
  if (missing.length === 0) return others;
  const shown = missing.length > MAX_MISSING_SHOWN ? missing.slice(0, MAX_MISSING_SHOWN - 1) : missing;
  const more = missing.length - shown.length;
  return [`lacks ${shown.join(", ")}${more > 0 ? ` and ${more} more columns` : ""}`, ...others];
}

/** Describes the missing indexes. The name of an index does not matter. */
async function missingIndexes(transaction: Drizzle, schema: string, { name, indexes }: (typeof TABLES)[number]): Promise<string[]> {
  const present = await execute<{ columns: string[]; isPartial: boolean }>(
    transaction,
    sql`select indpred is not null as "isPartial", array(select attname::text from unnest(indkey) with ordinality k(number, place)
                     join pg_attribute on attrelid = indrelid and attnum = number order by place) as columns
        from pg_index join pg_class c on c.oid = indrelid join pg_namespace n on n.oid = relnamespace
        where nspname = ${schema} and relname = ${name} and indisvalid`,
  );
  return indexes
    .map(({ config }) => ({
      columns: config.columns.map((column) => ("name" in column ? String(column.name) : "")),
      isPartial: config.where !== undefined,
    }))
    .filter(({ columns, isPartial }) => !present.some((index) => isIndexOn(index, columns) && (isPartial || !index.isPartial)))
    .map(({ columns, isPartial }) => `lacks ${isPartial ? "a partial" : "an"} index on ${columns.join(", ")}`);
}

function isIndexOn(index: { readonly columns: readonly string[] }, columns: readonly string[]): boolean {
  return columns.every((column, place) => index.columns[place] === column);
}

function incomplete(schema: string, table: string, faults: readonly string[], inTheWay: readonly string[]): string {
  const cause =
    inTheWay.length === 0
      ? "although all migrations are applied; it was changed, or another one was restored"
      : `and migrations were not applied, because their objects already exist (${inTheWay.join("; ")})`;
  return (
    `the table ${table} in schema ${schema} ${faults.join(", ")}, ${cause}. Repair it, and rename or drop objects that are not ours; ` +
    `or move it out of the way (CREATE SCHEMA aside; ALTER TABLE ${table} SET SCHEMA aside). Then migrate again`
  );
}

// The list of migrations applied to a schema: a table of our own in it, in Drizzle's format.

/** A migration's time, by which Drizzle identifies it, and its hash. */
interface Noted {
  readonly folderMillis: number;
  readonly hash: string;
}

export const JOURNAL = "celery_metrics_exporter_migrations";

class MigrationJournal {
  readonly #transaction: Drizzle;
  readonly #schema: string;
  readonly #name: SQL;

  constructor(transaction: Drizzle, schema: string) {
    this.#transaction = transaction;
    this.#schema = schema;
    this.#name = sql`${sql.identifier(schema)}.${sql.identifier(JOURNAL)}`;
  }

  /**
   * The applied migrations, according to the list.
   *
   * @param isEmpty whether the first table is missing: then no migration is applied, regardless of the list.
   */
  async read(isEmpty: boolean): Promise<ReadonlySet<number>> {
    // Not `if not exists`, which requires the right to create tables even if the table exists.
    if (!(await this.#exists())) {
      await execute(this.#transaction, sql`create table ${this.#name} (id serial primary key, hash text not null, created_at bigint)`);
    }
    if (isEmpty) await this.forget();
    const rows = await execute<{ at: string }>(this.#transaction, sql`select created_at::text as at from ${this.#name}`);
    return new Set(rows.map(({ at }) => Number(at)));
  }

  async forget(): Promise<void> {
    await execute(this.#transaction, sql`delete from ${this.#name}`);
  }

  async add({ hash, folderMillis }: Noted): Promise<void> {
    await execute(this.#transaction, sql`insert into ${this.#name} (hash, created_at) values (${hash}, ${folderMillis})`);
  }

  async #exists(): Promise<boolean> {
    const rows = await execute(
      this.#transaction,
      sql`select from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = ${this.#schema} and relname = ${JOURNAL}`,
    );
    return rows.length > 0;
  }
}

/** `drizzle/` at the root of the repository. Found by the package, because an app's bundle contains this module in another place. */
export const MIGRATIONS_FOLDER = join(
  createRequire(import.meta.url).resolve("@celery-metrics-exporter/db/package.json"),
  "../../../drizzle",
);
