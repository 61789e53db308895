/** Reads rows for people who wait: in read-only transactions with a short time limit. */
import { UnavailableError, redactUrl } from "@celery-metrics-exporter/runtime";
import { type SQL, sql } from "drizzle-orm";
import { PgDialect } from "drizzle-orm/pg-core";
import { types } from "pg";
import { connectDatabase, type ConnectDatabaseOptions, openReadingPool, readInTransaction } from "../connect/connect-database.ts";
import { toDatabaseError } from "../connect/database-error.ts";
import { checkDatabaseUrl, isEmbedded } from "../connect/database-url.ts";
import { type Database, execute } from "../tables/database.ts";

export interface Reader extends Pick<Database, "address" | "ping" | "close"> {
  /**
   * Runs one statement and returns its rows. Times are in UTC.
   *
   * @param timeoutMs a limit below that of the reader, the wait for a free connection included. An embedded database knows no limit.
   * @throws {TimedOutError} if it takes too long.
   * @throws {UnavailableError} if the database is unavailable, is not migrated or refuses access.
   * @throws {RefusedDataError} if it rejects a parameter.
   */
  read<R>(statement: SQL, timeoutMs?: number): Promise<readonly R[]>;
}

export interface ConnectReaderOptions extends Omit<ConnectDatabaseOptions, "statementTimeoutMs" | "poolSize"> {
  /** Limit on concurrent statements. */
  readonly poolSize: number;
  /** Time limit of a statement. */
  readonly statementTimeoutMs: number;
}

/**
 * Statements for people read a few rows of a large table by an index. PostgreSQL sometimes prefers to read the whole table, for example if its
 * statistics are old; that would exceed the limit. Compiling a statement takes longer than running it.
 */
const SETTINGS =
  "set local enable_seqscan = off; set local jit = off; set local max_parallel_workers_per_gather = 0; set local time zone 'UTC'";

const dialect = new PgDialect();

type TypeId = Parameters<typeof types.getTypeParser>[0];
const { DATE, INTERVAL, TIMESTAMP, TIMESTAMPTZ } = types.builtins;
const TIMES: ReadonlySet<number> = new Set([DATE, INTERVAL, TIMESTAMP, TIMESTAMPTZ]);
/** The driver's, but times stay texts, as Drizzle leaves them in an embedded database. */
const TYPES = {
  getTypeParser: (type: TypeId) => (TIMES.has(type) ? String : types.getTypeParser(type)),
};

/**
 * Connects, and afterwards reconnects indefinitely. Every setting belongs to a transaction, so this works behind a pooler too. Migrates an embedded
 * database.
 *
 * @throws {ConfigError} if the URL is invalid or names an unreadable certificate file.
 * @throws {UnavailableError} if PostgreSQL does not answer within `startupTimeoutMs`, or refuses access.
 */
export async function connectReader(options: ConnectReaderOptions): Promise<Reader> {
  checkDatabaseUrl(options.url);
  return isEmbedded(options.url) ? connectEmbedded(options) : connectPostgres(options);
}

async function connectPostgres(options: ConnectReaderOptions): Promise<Reader> {
  const { pool, ping, close } = await openReadingPool(options);
  return {
    address: redactUrl(options.url),
    ping,
    close,
    read: async (statement, timeoutMs = options.statementTimeoutMs) => {
      const limitMs = Math.min(timeoutMs, options.statementTimeoutMs);
      const { sql: text, params: values } = dialect.sqlToQuery(statement);
      const { rows } = await inWords(() => readInTransaction(pool, limitMs, begin, { text, values, types: TYPES }));
      return rows;
    },
  };
}

async function connectEmbedded(options: ConnectReaderOptions): Promise<Reader> {
  const database = await connectDatabase(options);
  return {
    address: database.address,
    ping: () => database.ping(),
    close: () => database.close(),
    read: (statement) =>
      inWords(() =>
        database.drizzle.transaction(
          async (transaction) => {
            for (const setting of SETTINGS.split("; ")) await transaction.execute(sql.raw(setting));
            return execute({ drizzle: transaction }, statement);
          },
          { accessMode: "read only" },
        ),
      ),
  };
}

/** @param leftMs the time limit of its statements. */
function begin(leftMs: number): string {
  return `begin transaction read only; set local statement_timeout = ${leftMs}; ${SETTINGS}`;
}

async function inWords<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    throw thrown instanceof UnavailableError ? thrown : toDatabaseError(thrown);
  }
}
