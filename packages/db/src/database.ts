/** A database as the rest of this package uses it, whichever driver is behind it. */
import type { PgDatabase, PgQueryResultHKT } from "drizzle-orm/pg-core";
import type { SQL } from "drizzle-orm";
import { toDatabaseError } from "./database-error.ts";

export interface Database {
  readonly drizzle: PgDatabase<PgQueryResultHKT>;
  /** Where it is, without password: fit for messages. */
  readonly address: string;
  /**
   * Asks for an answer, and gives up after a few seconds.
   *
   * @throws {UnavailableError} when there is none.
   */
  ping(): Promise<void>;
  /** Ends every connection, after the statements that run. Safe twice. */
  close(): Promise<void>;
}

/**
 * Runs a statement and gives its rows.
 *
 * @throws {UnavailableError} when the database does not serve, is not migrated or does not let us in.
 * @throws {RefusedDataError} when it refuses the data.
 */
export async function query<R = unknown>(database: Pick<Database, "drizzle">, statement: SQL): Promise<readonly R[]> {
  try {
    const result: unknown = await database.drizzle.execute(statement);
    return (result as { rows: R[] }).rows;
  } catch (thrown) {
    throw toDatabaseError(thrown);
  }
}
