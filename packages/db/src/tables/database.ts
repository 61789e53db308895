/** A database, independent of the driver. */
import type { PgDatabase, PgQueryResultHKT } from "drizzle-orm/pg-core";
import type { SQL } from "drizzle-orm";
import { toDatabaseError } from "../connect/database-error.ts";

/** Runs statements: a connection, a pool, or a transaction. */
export interface Drizzle {
  readonly drizzle: PgDatabase<PgQueryResultHKT>;
}

export interface Database extends Drizzle {
  /** The address without the password, for messages. */
  readonly address: string;
  /**
   * Checks that the database answers within a few seconds.
   *
   * @throws {UnavailableError} if it does not.
   */
  ping(): Promise<void>;
  /**
   * Runs a statement of which only the parameters differ from time to time. Unless a connection pooler is in between, PostgreSQL plans it once for each
   * connection.
   *
   * @throws the driver's error.
   */
  runKept(statement: SQL): Promise<void>;
  /** Closes every connection after the running statements. Idempotent. */
  close(): Promise<void>;
}

/**
 * Runs a statement and returns its rows.
 *
 * @throws {UnavailableError} if the database is unavailable, is not migrated or refuses access.
 * @throws {RefusedDataError} if it rejects the data.
 */
export async function query<R = unknown>(database: Drizzle, statement: SQL): Promise<readonly R[]> {
  try {
    return await execute<R>(database, statement);
  } catch (thrown) {
    throw toDatabaseError(thrown);
  }
}

/** As `query`, for a statement of which only the parameters differ from time to time and which returns no rows. */
export async function queryKept(database: Database, statement: SQL): Promise<void> {
  try {
    await database.runKept(statement);
  } catch (thrown) {
    throw toDatabaseError(thrown);
  }
}

/** Like `query`, but throws Drizzle's error, whose message contains every parameter. */
export async function execute<R = unknown>(database: Drizzle, statement: SQL): Promise<readonly R[]> {
  const result: unknown = await database.drizzle.execute(statement);
  return (result as { rows: R[] }).rows;
}
