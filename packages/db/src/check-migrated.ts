/** Tells before the first batch what would stop every batch. */
import { sql } from "drizzle-orm";
import { query, type Database } from "./database.ts";
import { celeryTask } from "./schema.ts";
import { upsertRows } from "./upsert-tasks.ts";

/**
 * Runs the upsert without rows: Postgres then checks the table, its columns and key, our rights, and that it is not read-only.
 *
 * @throws {UnavailableError} naming the command that migrates, or what else is wrong.
 */
export async function checkMigrated(database: Database): Promise<void> {
  await upsertRows(database, []);
}

/**
 * Deletes no row, for Postgres to check that we might.
 *
 * @throws {UnavailableError} when we may not.
 */
export async function checkMayDelete(database: Database): Promise<void> {
  await query(database, sql`delete from ${celeryTask} where false`);
}
