/** A database as the rest of this package uses it, whichever driver is behind it. */
import type { PgDatabase, PgQueryResultHKT } from "drizzle-orm/pg-core";
import type { SQL } from "drizzle-orm";
import { toDatabaseError } from "../connect/database-error.ts";

/** Runs statements: a connection, a pool of them, or a transaction. */
export interface Drizzle {
  readonly drizzle: PgDatabase<PgQueryResultHKT>;
}

export interface Database extends Drizzle {
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
 * Runs a statement and returns its rows.
 *
 * @throws {UnavailableError} when the database does not serve, is not migrated or does not let us in.
 * @throws {RefusedDataError} when it refuses the data.
 */
export async function query<R = unknown>(database: Drizzle, statement: SQL): Promise<readonly R[]> {
  try {
    return await execute<R>(database, statement);
  } catch (thrown) {
    throw toDatabaseError(thrown);
  }
}

/** As `query`, but throws what Drizzle throws: its message contains every parameter. */
export async function execute<R = unknown>(database: Drizzle, statement: SQL): Promise<readonly R[]> {
  const result: unknown = await database.drizzle.execute(statement);
  return (result as { rows: R[] }).rows;
}
