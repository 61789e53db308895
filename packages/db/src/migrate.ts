/** Applies the migrations, one process at a time. Works through a transaction pooler too: nothing is left on the session. */
import { UnavailableError, pause, redactUrl } from "@celery-metrics-exporter/runtime";
import { sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { Client } from "pg";
import { ADVISORY_LOCKS } from "./advisory-locks.ts";
import { MigrationProblem, TABLE_NAMES, applyMigrations } from "./apply-migrations.ts";
import { connectDatabase } from "./connect-database.ts";
import { toDatabaseConnection } from "./database-connection.ts";
import { faultOf } from "./database-error.ts";
import { checkDatabaseUrl, isEmbedded } from "./database-url.ts";
import { execute, type Drizzle } from "./database.ts";
import { describeAdvisoryHolders, describeTableHolders } from "./lock-holders.ts";
import { JOURNAL } from "./migration-journal.ts";
import type { Fault } from "./sql-state.ts";

export interface MigrateOptions {
  /** Called with a sentence now and then while another migration is waited for. */
  readonly onWait?: (message: string) => void;
  /** How long to wait for another migration. */
  readonly waitMs?: number;
  /** How long a change to a table waits for others who use it: everyone behind it waits too. */
  readonly tableWaitMs?: number;
}

const WAIT_MS = 60_000;
const ASK_EVERY_MS = 500;
const REPORT_EVERY_MS = 10_000;
const TABLE_WAIT_MS = 30_000;
const CONNECT_TIMEOUT_MS = 15_000;
const LOCK_NOT_AVAILABLE = "55P03";
/** A table, a column or another object that a migration makes is there already. */
const DUPLICATE = /^(42P07|42701|42710)$/;
const DUPLICATE_ADVICE = `The list of applied migrations does not fit the tables: drop it (DROP TABLE ${JOURNAL}) and migrate again, to have it written anew`;

/**
 * Brings the database up to date; does nothing when it is.
 *
 * @returns the schema that has the tables.
 * @throws {ConfigError} when the URL cannot be read, or a certificate file that it names.
 * @throws {UnavailableError} when the database cannot be reached, does not let us in or is locked, or when the tables are not as they should
 *   be; the message says what to do.
 */
export async function migrate(url: string, options: MigrateOptions = {}): Promise<string> {
  checkDatabaseUrl(url);
  if (isEmbedded(url)) {
    const database = await connectDatabase({ url });
    await database.close();
    return "public";
  }
  const client = new Client({
    application_name: "celery-metrics-exporter migrate",
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    ...toDatabaseConnection(url),
    // Set in the transaction instead: a pooler takes none for the session.
    statement_timeout: 0,
    lock_timeout: 0,
  });
  client.on("error", () => {}); // the statement that runs fails, and says why
  const database = { drizzle: drizzle({ client }) };
  try {
    await client.connect();
    return await migrateInTurn(database, options);
  } catch (thrown) {
    throw new UnavailableError(`Cannot migrate PostgreSQL at ${redactUrl(url)}: ${await explain(database, thrown)}.`);
  } finally {
    await client.end();
  }
}

/** The lock belongs to the transaction, so it is tried for anew with each. */
async function migrateInTurn(
  database: Drizzle,
  { onWait, waitMs = WAIT_MS, tableWaitMs = TABLE_WAIT_MS }: MigrateOptions,
): Promise<string> {
  const startedAt = Date.now();
  for (let reportedAt = startedAt - REPORT_EVERY_MS / 2; ;) {
    const schema = await inTransaction(database, async (transaction) => {
      await execute(transaction, sql.raw(`set local lock_timeout = ${tableWaitMs}`));
      await execute(transaction, sql.raw("set local statement_timeout = 0"));
      const [turn] = await execute<{ ours: boolean }>(
        transaction,
        sql`select pg_try_advisory_xact_lock(${ADVISORY_LOCKS.migrate}) as ours`,
      );
      return turn?.ours === true ? applyMigrations(transaction) : undefined;
    });
    if (schema !== undefined) return schema;
    const isOver = Date.now() - startedAt >= waitMs;
    if (isOver || Date.now() - reportedAt >= REPORT_EVERY_MS) {
      reportedAt = Date.now();
      const holders = (await describeAdvisoryHolders(database, ADVISORY_LOCKS.migrate)) || "a session that PostgreSQL does not name";
      if (isOver) throw new MigrationProblem(stillLocked(holders, waitMs));
      onWait?.(`Waiting for another migration, run by ${holders}.`);
    }
    await pause(ASK_EVERY_MS);
  }
}

function stillLocked(holders: string, waitMs: number): string {
  return (
    `another migration has not ended after ${Math.round(waitMs / 1_000)} s. It is run by ${holders}. Try again when it is done. ` +
    "If it is idle, it is a session that an earlier version left behind a connection pooler: end it with SELECT pg_terminate_backend(its number)"
  );
}

/** Throws the first error: a lost connection makes the rollback fail too. */
async function inTransaction<T>(database: Drizzle, work: (transaction: Drizzle) => Promise<T>): Promise<T> {
  let first: unknown;
  try {
    return await database.drizzle.transaction(async (transaction) => {
      try {
        return await work({ drizzle: transaction });
      } catch (thrown) {
        first = thrown;
        throw thrown;
      }
    });
  } catch (thrown) {
    throw first ?? thrown;
  }
}

/** A clause: what happened, and what to do. */
async function explain(database: Drizzle, thrown: unknown): Promise<string> {
  if (thrown instanceof MigrationProblem) return thrown.message;
  const { fault, reason, sqlState, advice } = faultOf(thrown);
  if (sqlState !== LOCK_NOT_AVAILABLE) {
    const remedy = advice ?? adviceFor(fault, sqlState);
    return remedy === undefined ? reason : `${reason}. ${remedy}`;
  }
  const holders = await describeTableHolders(database, TABLE_NAMES).catch(() => "");
  return `${reason}. The table is in use${holders === "" ? "" : ` by ${holders}`}. End that, or try again when it is done`;
}

function adviceFor(fault: Fault, sqlState: string | undefined): string | undefined {
  if (sqlState !== undefined) return DUPLICATE.test(sqlState) ? DUPLICATE_ADVICE : undefined;
  return fault === "unavailable" ? "Start it, or set DATABASE_URL" : undefined;
}
