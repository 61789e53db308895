/** Tells before the first batch what would stop every batch. */
import type { Database } from "./database.ts";
import { upsertRows } from "./upsert-tasks.ts";

/**
 * Runs the upsert without rows: Postgres then checks the table, its columns and key, our rights, and that it is not read-only.
 *
 * @throws {UnavailableError} naming the command that migrates, or what else is wrong.
 */
export async function checkMigrated(database: Database): Promise<void> {
  await upsertRows(database, []);
}
