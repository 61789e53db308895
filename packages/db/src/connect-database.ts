/** Opens the database that a URL names: PostgreSQL over a pool, or PGlite inside this process. */
import { UnavailableError, backoffMs, pause, redactUrl, type Logger } from "@celery-metrics-exporter/runtime";
import { drizzle } from "drizzle-orm/node-postgres";
import { Pool, type QueryConfig } from "pg";
import { toDatabaseConnection } from "./database-connection.ts";
import { checkDatabaseUrl, isEmbedded } from "./database-url.ts";
import { faultOf, toDatabaseError } from "./database-error.ts";
import type { Database } from "./database.ts";

export interface ConnectDatabaseOptions {
  /** `postgres://…`, `postgresql://…`, `pglite:memory` or `pglite:<folder>`. */
  readonly url: string;
  /** Most connections at a time. */
  readonly poolSize?: number;
  /** How long to wait for a database that is not there yet. */
  readonly startupTimeoutMs?: number;
  /** How long a statement may take; 0 sets no limit. */
  readonly statementTimeoutMs?: number;
  /** Shown in `pg_stat_activity`. */
  readonly applicationName?: string;
  readonly logger?: Logger;
  /** Called when the server ends a connection that nobody uses; not for an embedded database. */
  readonly onConnectionLost?: () => void;
}

const CONNECT_TIMEOUT_MS = 5_000;
/** Beyond the server's own limit: for an answer that never comes, because the network is gone. */
const ANSWER_MARGIN_MS = 5_000;
const CLOSE_TIMEOUT_MS = 5_000;
const PING_TIMEOUT_MS = 5_000;
/** Longer than between two pings, so that one connection stays and tells at once when the server goes. */
const IDLE_TIMEOUT_MS = 30_000;
/** Connections are made anew now and then, so that a failed-over name is looked up again. */
const CONNECTION_LIFETIME_SECONDS = 30 * 60;

/**
 * Connects, and reconnects for ever afterwards. An embedded database is also migrated, for nobody else can do that.
 *
 * @throws {ConfigError} when the URL cannot be read, or a certificate file that it names.
 * @throws {UnavailableError} when PostgreSQL has not answered within `startupTimeoutMs`, or does not let us in.
 */
export async function connectDatabase(options: ConnectDatabaseOptions): Promise<Database> {
  checkDatabaseUrl(options.url);
  if (isEmbedded(options.url)) {
    const { openEmbeddedDatabase } = await import("./embedded-database.ts");
    return openEmbeddedDatabase(options.url);
  }
  const pool = createPool(options);
  try {
    await waitUntilReady(pool, options);
  } catch (thrown) {
    await pool.end();
    throw thrown;
  }
  let closing: Promise<void> | undefined;
  return {
    drizzle: drizzle({ client: pool }),
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

/** Waits for the statements that run, but not for a server that no longer answers. */
async function endPool(pool: Pool): Promise<void> {
  const ended = new AbortController();
  await Promise.race([pool.end().finally(() => ended.abort()), pause(CLOSE_TIMEOUT_MS, ended.signal)]);
}

function createPool(options: ConnectDatabaseOptions): Pool {
  const { url, poolSize = 5, statementTimeoutMs = 30_000, applicationName, logger, onConnectionLost } = options;
  const pool = new Pool({
    ...toDatabaseConnection(url),
    max: poolSize,
    application_name: applicationName ?? "celery-metrics-exporter",
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    maxLifetimeSeconds: CONNECTION_LIFETIME_SECONDS,
    keepAlive: true,
    ...(statementTimeoutMs > 0 && { statement_timeout: statementTimeoutMs, query_timeout: statementTimeoutMs + ANSWER_MARGIN_MS }),
  });
  // Without a listener, an idle connection that the server ends would end the process.
  pool.on("error", (error) => {
    logger?.warn({ reason: faultOf(error).reason }, "PostgreSQL connection lost");
    onConnectionLost?.();
  });
  return pool;
}

/** Waits for a server that is not there or starting; a wrong password or name is told at once. */
async function waitUntilReady(pool: Pool, { url, startupTimeoutMs = 15_000, logger }: ConnectDatabaseOptions): Promise<void> {
  const deadline = Date.now() + startupTimeoutMs;
  for (let attempt = 0; ; attempt++) {
    try {
      await pool.query("select 1");
      return;
    } catch (thrown) {
      const { fault, reason } = faultOf(thrown);
      const waitMs = backoffMs(attempt, { firstMs: 200, maxMs: 2_000 });
      if (fault !== "unavailable" || Date.now() + waitMs > deadline) throw cannotConnect(url, fault, reason);
      if (attempt === 0) logger?.info({ reason }, "waiting for PostgreSQL");
      await pause(waitMs);
    }
  }
}

function cannotConnect(url: string, fault: string, reason: string): UnavailableError {
  const advice = fault === "denied" ? "Correct DATABASE_URL." : "Start it, or set DATABASE_URL.";
  return new UnavailableError(`Cannot use PostgreSQL at ${redactUrl(url)} (${reason}). ${advice}`);
}
