/** Applies the migrations, one process at a time. Also works through a transaction pooler, because it leaves nothing on the session. */
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
import type { HistoryMode } from "../history/task-events.ts";
import { upsertRows } from "../merge/upsert.ts";

export interface MigrateOptions {
  /** Called with a message at intervals while waiting for another migration. */
  readonly onWait?: (message: string) => void;
  /** How long to wait for another migration. */
  readonly waitMs?: number;
  /** How long a change to a table waits for other users of the table. All statements behind it wait too. */
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
 * Brings the database up to date. Idempotent.
 *
 * @returns the schema that contains the tables.
 * @throws {ConfigError} if the URL is invalid or names an unreadable certificate file.
 * @throws {UnavailableError} if the database is unreachable, refuses access or is locked, or if the tables are not as expected. The message says what to
 *   do.
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
    // Set in the transaction instead: a pooler does not accept it for the session.
    statement_timeout: 0,
    lock_timeout: 0,
  } satisfies ClientConfig;
  const client = new Client(settings);
  client.on("error", () => {}); // the running statement fails, with the reason
  try {
    await client.connect();
    return await migrateInTurn({ drizzle: drizzle({ client }) }, settings, options);
  } catch (thrown) {
    throw new UnavailableError(`Cannot migrate PostgreSQL at ${redactUrl(url)}: ${explain(thrown)}.`);
  } finally {
    await client.end();
  }
}

/** Migrates once the lock is free. The lock belongs to the transaction, so each attempt uses a new one. */
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
      const holders = (await describeAdvisoryHolders(database, ADVISORY_LOCKS.migrate)) || "an unknown PostgreSQL session";
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

/** @throws {MigrationProblem} if a lock on a table times out, with the sessions that blocked us. */
async function namingBlockers<T>({ settings, pid, everyMs }: Watch, work: () => Promise<T>): Promise<T> {
  // Connects with its first statement. Most migrations end before that.
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
  return `${reason}. The table is in use${users}. End that session, or try again when it is done`;
}

function stillLocked(holders: string, waitMs: number): string {
  return (
    `another migration has not finished after ${Math.round(waitMs / 1_000)} s. It is run by ${holders}. Try again when it is done. ` +
    "If it is idle, an earlier version left it behind a connection pooler: end it with SELECT pg_terminate_backend(its number)"
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

/** A clause with the problem and what to do. */
function explain(thrown: unknown): string {
  if (thrown instanceof MigrationProblem) return thrown.message;
  const { fault, reason, sqlState, advice } = faultOf(thrown);
  const remedy = advice ?? (sqlState === undefined && fault === "unavailable" ? "Start it, or set DATABASE_URL" : undefined);
  return remedy === undefined ? reason : `${reason}. ${remedy}`;
}

// Checks before the first batch that find problems of every batch.

/**
 * Runs the upsert without rows. Postgres then checks the tables, their columns and keys, our rights, and that they are not read-only.
 *
 * @throws {UnavailableError} with the command that migrates, or another problem.
 */
export async function checkMigrated(database: Database, history: HistoryMode = "unusual"): Promise<void> {
  await upsertRows(database, [], history);
}

/**
 * Runs a deletion of no rows, so that Postgres checks our rights.
 *
 * @throws {UnavailableError} if we may not delete.
 */
export async function checkMayDelete(database: Database): Promise<void> {
  await query(database, sql`delete from ${celeryTask} where false`);
}
