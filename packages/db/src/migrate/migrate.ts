/** Applies the migrations, one process at a time. Works through a transaction pooler too: nothing is left on the session. */
import { UnavailableError, pause, redactUrl } from "@celery-metrics-exporter/runtime";
import { sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { Client, type ClientConfig, Pool } from "pg";
import { ADVISORY_LOCKS, describeAdvisoryHolders, watchBlockers } from "./locks.ts";
import { MigrationProblem, applyMigrations } from "./apply-migrations.ts";
import { connectDatabase } from "../connect/connect-database.ts";
import { toDatabaseConnection } from "../connect/connection.ts";
import { faultOf } from "../connect/database-error.ts";
import { checkDatabaseUrl, isEmbedded } from "../connect/database-url.ts";
import { type Database, type Drizzle, execute, query } from "../tables/database.ts";
import { celeryTask } from "../tables/schema.ts";
import { upsertRows } from "../merge/upsert.ts";

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
const BLOCKERS_EVERY_MS = 1_000;

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
  const settings = {
    application_name: "celery-metrics-exporter migrate",
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    ...toDatabaseConnection(url),
    // Set in the transaction instead: a pooler takes none for the session.
    statement_timeout: 0,
    lock_timeout: 0,
  } satisfies ClientConfig;
  const client = new Client(settings);
  client.on("error", () => {}); // the statement that runs fails, and says why
  try {
    await client.connect();
    return await migrateInTurn({ drizzle: drizzle({ client }) }, settings, options);
  } catch (thrown) {
    throw new UnavailableError(`Cannot migrate PostgreSQL at ${redactUrl(url)}: ${explain(thrown)}.`);
  } finally {
    await client.end();
  }
}

/** The lock belongs to the transaction, so it is tried for anew with each. */
async function migrateInTurn(
  database: Drizzle,
  settings: ClientConfig,
  { onWait, waitMs = WAIT_MS, tableWaitMs = TABLE_WAIT_MS }: MigrateOptions,
): Promise<string> {
  const startedAt = Date.now();
  for (let reportedAt = startedAt - REPORT_EVERY_MS / 2; ;) {
    const schema = await inTransaction(database, async (transaction) => {
      await execute(transaction, sql.raw(`set local lock_timeout = ${tableWaitMs}`));
      await execute(transaction, sql.raw("set local statement_timeout = 0"));
      const [turn] = await execute<{ ours: boolean; pid: number }>(
        transaction,
        sql`select pg_try_advisory_xact_lock(${ADVISORY_LOCKS.migrate}) as ours, pg_backend_pid() as pid`,
      );
      if (turn?.ours !== true) return undefined;
      const watch = { settings, pid: turn.pid, everyMs: Math.min(BLOCKERS_EVERY_MS, tableWaitMs / 4) };
      return namingBlockers(watch, () => applyMigrations(transaction));
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

interface Watch {
  readonly settings: ClientConfig;
  /** The session that may wait. */
  readonly pid: number;
  readonly everyMs: number;
}

/** @throws {MigrationProblem} when a lock on a table is not to be had in time, with who blocked us. */
async function namingBlockers<T>({ settings, pid, everyMs }: Watch, work: () => Promise<T>): Promise<T> {
  // Connects with its first statement: most migrations have ended by then.
  const pool = new Pool({ ...settings, max: 1 });
  pool.on("error", () => {});
  const watching = new AbortController();
  const blockers = watchBlockers({ drizzle: drizzle({ client: pool }) }, pid, everyMs, watching.signal);
  try {
    return await work();
  } catch (thrown) {
    const { sqlState, reason } = faultOf(thrown);
    if (sqlState !== LOCK_NOT_AVAILABLE) throw thrown;
    watching.abort();
    throw new MigrationProblem(inUse(reason, await blockers));
  } finally {
    watching.abort();
    await blockers;
    await pool.end();
  }
}

function inUse(reason: string, blockers: string): string {
  const users = blockers === "" ? "" : `: we waited for ${blockers}`;
  return `${reason}. The table is in use${users}. End that, or try again when it is done`;
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
function explain(thrown: unknown): string {
  if (thrown instanceof MigrationProblem) return thrown.message;
  const { fault, reason, sqlState, advice } = faultOf(thrown);
  const remedy = advice ?? (sqlState === undefined && fault === "unavailable" ? "Start it, or set DATABASE_URL" : undefined);
  return remedy === undefined ? reason : `${reason}. ${remedy}`;
}

// Tells before the first batch what would stop every batch.

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
