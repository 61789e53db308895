/** Opens the database of a URL: PostgreSQL through a pool, or PGlite inside this process. */
import { type Logger, MAX_TIMER_MS, TimedOutError, UnavailableError, pause, redactUrl, retry } from "@celery-metrics-exporter/runtime";
import { DrizzleQueryError } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { DatabaseError, Pool, type PoolClient, type QueryConfig, type QueryResult } from "pg";
import { type DatabaseConnection, toDatabaseConnection } from "./connection.ts";
import {
  DATABASE_FACTS_STATEMENT,
  type DatabaseFacts,
  type DatabaseFault,
  databaseProblem,
  faultOf,
  refusedParameter,
  toDatabaseError,
} from "./database-error.ts";
import { checkDatabaseUrl, isEmbedded } from "./database-url.ts";
import { KeptStatements } from "./kept-statements.ts";
import { type Database, execute } from "../tables/database.ts";

export interface ConnectDatabaseOptions {
  /** `postgres://…`, `postgresql://…`, `pglite:memory` or `pglite:<folder>`. */
  readonly url: string;
  /** Limit on concurrent connections. */
  readonly poolSize?: number;
  /** How long to wait for a database that is not available yet. */
  readonly startupTimeoutMs?: number;
  /** Time limit of a statement. 0 means no limit. */
  readonly statementTimeoutMs?: number;
  /** Shown in `pg_stat_activity`. */
  readonly applicationName?: string;
  readonly logger?: Logger;
  /** Called when the server closes an idle connection. Not for an embedded database. */
  readonly onConnectionLost?: () => void;
}

const CONNECT_TIMEOUT_MS = 5_000;
const STATEMENT_TIMEOUT_MS = 30_000;
/** Added to the server's time limit, for an answer that never arrives because the network is down. */
const ANSWER_MARGIN_MS = 5_000;
const STARTUP_BACKOFF = { firstMs: 200, maxMs: 2_000 };
const CLOSE_TIMEOUT_MS = 5_000;
const PING_TIMEOUT_MS = 5_000;
/** Longer than the interval of pings, so that one connection stays open and reveals at once that the server is gone. */
const IDLE_TIMEOUT_MS = 30_000;
/** Limit on a connection's lifetime, so that after a failover the name is resolved again. */
const CONNECTION_LIFETIME_SECONDS = 30 * 60;

/**
 * Connects, and afterwards reconnects indefinitely. Also migrates an embedded database, because no other process can.
 *
 * @throws {ConfigError} if the URL is invalid or names an unreadable certificate file.
 * @throws {UnavailableError} if PostgreSQL does not answer within `startupTimeoutMs`, or refuses access.
 */
export async function connectDatabase(options: ConnectDatabaseOptions): Promise<Database> {
  checkDatabaseUrl(options.url);
  if (isEmbedded(options.url)) {
    const { openEmbeddedDatabase } = await import("../embedded/embedded-database.ts");
    return openEmbeddedDatabase(options.url);
  }
  const { pool, client, isOurs } = await openPool(options);
  const database = { drizzle: drizzle({ client: client as Pool }) };
  const kept = isOurs ? new KeptStatements(pool, options.logger) : undefined;
  let closing: Promise<void> | undefined;
  return {
    ...database,
    runKept: async (statement) => void (await (kept?.run(statement) ?? execute(database, statement))),
    address: redactUrl(options.url),
    ping: () => ping(pool),
    close: () => (closing ??= endPool(pool)),
  };
}

async function ping(pool: Pool): Promise<void> {
  const statement: QueryConfig & { query_timeout: number } = { text: "select 1", query_timeout: PING_TIMEOUT_MS };
  try {
    await pool.query(statement);
  } catch (thrown) {
    throw toDatabaseError(thrown);
  }
}

/** Waits for running statements, but not for a server that no longer answers. */
async function endPool(pool: Pool): Promise<void> {
  const ended = new AbortController();
  await Promise.race([pool.end().finally(() => ended.abort()), pause(CLOSE_TIMEOUT_MS, ended.signal)]);
}

/**
 * A pool for reading only, without settings of the session, so that it works behind any pooler. `statementTimeoutMs` limits only how long an answer is
 * awaited: each transaction sets its own limit.
 *
 * @throws as `connectDatabase`.
 */
export async function openReadingPool(
  options: ConnectDatabaseOptions,
): Promise<Pick<Database, "ping" | "close"> & { readonly pool: Pool }> {
  const connection = toDatabaseConnection(options.url);
  const pool = createPool(
    { ...connection, statement_timeout: 0, pipeline: true },
    options,
    options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS,
  );
  await becomesReady(pool, options);
  let closing: Promise<void> | undefined;
  return { pool, ping: () => ping(pool), close: () => (closing ??= endPool(pool)) };
}

interface OpenPool {
  readonly pool: Pool;
  /** Runs statements: the pool, or the pool with a time limit for each statement. */
  readonly client: Pick<Pool, "query">;
  /** Whether each session is known to be ours alone. A pooler lets several clients share one, and does not accept a time limit for it. */
  readonly isOurs: boolean;
}

/** Opens a pool. A pooler such as PgBouncer does not accept a time limit for a session, because clients share sessions: then each statement gets its own. */
async function openPool(options: ConnectDatabaseOptions): Promise<OpenPool> {
  const { url, statementTimeoutMs = STATEMENT_TIMEOUT_MS, logger } = options;
  const connection = toDatabaseConnection(url);
  const limitMs = connection.statement_timeout ?? statementTimeoutMs;
  const pool = createPool({ ...connection, statement_timeout: limitMs }, options, limitMs);
  if (await becomesReady(pool, options)) return { pool, client: pool, isOurs: limitMs > 0 };
  logger?.info("the connection pooler does not accept statement_timeout for a session; setting it for each statement");
  const unlimited = createPool({ ...connection, statement_timeout: 0 }, options, limitMs);
  await becomesReady(unlimited, options);
  return { pool: unlimited, client: new TimeLimitingPool(unlimited, limitMs) as unknown as Pool, isOurs: false };
}

function createPool(connection: DatabaseConnection & { readonly pipeline?: true }, options: ConnectDatabaseOptions, limitMs: number): Pool {
  const { poolSize = 5, applicationName, logger, onConnectionLost } = options;
  const pool = new Pool({
    application_name: applicationName ?? "celery-metrics-exporter",
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    ...connection,
    max: poolSize,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    maxLifetimeSeconds: CONNECTION_LIFETIME_SECONDS,
    keepAlive: true,
    ...(limitMs > 0 && { query_timeout: Math.min(limitMs + ANSWER_MARGIN_MS, MAX_TIMER_MS) }),
  });
  // Without a listener, the process would end when the server closes an idle connection.
  pool.on("error", (error) => {
    logger?.warn({ reason: faultOf(error).reason }, "PostgreSQL connection lost");
    onConnectionLost?.();
  });
  // The same for one that is in a transaction. The running or the next statement fails, with the reason.
  pool.on("connect", (client) => client.on("error", ignore));
  return pool;
}

/**
 * Waits for a server that is unavailable or starting.
 *
 * @returns false, with the pool closed, if the server rejects only the time limit.
 * @throws {UnavailableError} if it takes too long; at once if waiting cannot help, as with a wrong password.
 */
async function becomesReady(pool: Pool, { url, startupTimeoutMs = 15_000, logger }: ConnectDatabaseOptions): Promise<boolean> {
  const deadline = Date.now() + startupTimeoutMs;
  const decide = (thrown: Error, tries: number): false | undefined => {
    const fault = faultOf(thrown);
    if ((fault.fault === "unavailable" || fault.fault === "slow") && Date.now() < deadline) {
      if (tries === 1) logger?.info({ reason: fault.reason }, "waiting for PostgreSQL");
      return undefined;
    }
    if (refusedParameter(fault.reason) === "statement_timeout") return false;
    throw thrown instanceof UnavailableError ? thrown : cannotConnect(url, fault);
  };
  let isReady = false;
  try {
    isReady = await retry(() => checkUsable(pool, url), { ...STARTUP_BACKOFF, decide });
    return isReady;
  } finally {
    if (!isReady) await pool.end();
  }
}

/** @throws {UnavailableError} if the database cannot be used as it is; otherwise the pool's error. */
async function checkUsable(pool: Pool, url: string): Promise<true> {
  const { rows } = await pool.query<DatabaseFacts>(DATABASE_FACTS_STATEMENT);
  const problem = rows[0] && databaseProblem(rows[0]);
  if (problem === undefined) return true;
  throw new UnavailableError(`Cannot use PostgreSQL at ${redactUrl(url)}: ${problem}.`);
}

/** The error for a database that does not answer or refuses access. */
export function cannotConnect(url: string, { fault, reason, advice }: DatabaseFault): UnavailableError {
  const remedy = advice ?? (fault === "denied" ? "Correct DATABASE_URL" : "Start it, or set DATABASE_URL");
  return new UnavailableError(`Cannot use PostgreSQL at ${redactUrl(url)} (${reason}). ${remedy}.`);
}

// A time limit for each statement, if a connection pooler does not accept one for the session.

/**
 * Runs each statement in a transaction with the limit, so that no setting is left on a shared session. Drizzle recognises a pool by its name, and
 * connects for a transaction of several statements; these have only the client's own limit.
 */
class TimeLimitingPool {
  readonly #pool: Pool;
  readonly #begin: string;

  constructor(pool: Pool, limitMs: number) {
    this.#pool = pool;
    this.#begin = `begin; set local statement_timeout = ${limitMs}`;
  }

  connect(): Promise<PoolClient> {
    return this.#pool.connect();
  }

  query(statement: QueryConfig, values?: unknown[]): Promise<unknown> {
    return inTransaction(this.#pool, this.#begin, (client) => client.query(statement, values));
  }
}

/** @param begin the statements that begin the transaction. */
async function inTransaction<T>(pool: Pool, begin: string, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  try {
    await client.query(begin);
    const result = await work(client);
    await client.query("commit");
    client.release();
    return result;
  } catch (thrown) {
    // If the server rejected the statement, the connection is still usable. With a lost connection, the transaction ends too.
    const isUsable =
      isFromServer(thrown) &&
      (await client.query("rollback").then(
        () => true,
        () => false,
      ));
    client.release(!isUsable);
    throw thrown;
  }
}

/**
 * Runs a statement in a transaction of a reading pool, in one round trip. The wait for a free connection counts too. What was read is returned without
 * waiting for the end of the transaction.
 *
 * @param begin the statements that begin a transaction that has so many milliseconds left.
 * @throws {TimedOutError} if no connection becomes free within the limit.
 */
export async function readInTransaction(
  pool: Pool,
  limitMs: number,
  begin: (leftMs: number) => string,
  statement: QueryConfig,
): Promise<QueryResult> {
  const deadline = performance.now() + limitMs;
  const connecting = pool.connect();
  // Not `pause`, whose end by a signal takes longer than a short statement.
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), limitMs)));
  const client = await Promise.race([connecting, over]).finally(() => clearTimeout(timer));
  if (client === undefined) {
    // It comes too late for us.
    connecting.then((late) => late.release(), ignore);
    throw new TimedOutError("PostgreSQL takes too long: no connection was free in time.");
  }
  const beginning = client.query(begin(Math.max(1, Math.round(deadline - performance.now()))));
  const reading = client.query(statement);
  // After an error it is a rollback.
  client.query("commit").then(
    () => client.release(),
    () => client.release(true),
  );
  const [, result] = await Promise.all([beginning, reading]);
  return result;
}

/** Whether the server rejected the statement. Drizzle wraps the driver's error. */
function isFromServer(thrown: unknown): boolean {
  return thrown instanceof DatabaseError || (thrown instanceof DrizzleQueryError && thrown.cause instanceof DatabaseError);
}

function ignore(): void {}
