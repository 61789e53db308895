/** Applies the migrations, one process at a time: Drizzle's migrator takes no lock of its own (drizzle-orm #874). */
import { UnavailableError, redactUrl } from "@celery-metrics-exporter/runtime";
import { drizzle } from "drizzle-orm/node-postgres";
import { migrate as applyMigrations } from "drizzle-orm/node-postgres/migrator";
import { Client } from "pg";
import { connectDatabase } from "./connect-database.ts";
import { faultOf } from "./database-error.ts";
import { toDatabaseConnection } from "./database-connection.ts";
import { checkDatabaseUrl, isEmbedded } from "./database-url.ts";
import { ADVISORY_LOCKS } from "./advisory-locks.ts";
import { MIGRATIONS_FOLDER } from "./migrations-folder.ts";

/** A change to the table waits at most this long for those who use it, for everyone behind it waits too. */
const LOCK_TIMEOUT = "30s";

/**
 * Brings the database up to date; does nothing when it is. Not through a transaction pooler such as PgBouncer: the lock is the session's.
 *
 * @throws {ConfigError} when the URL cannot be read, or a certificate file that it names.
 * @throws {UnavailableError} when the database cannot be reached, does not let us in, or the table stays locked.
 */
export async function migrate(url: string): Promise<void> {
  checkDatabaseUrl(url);
  if (isEmbedded(url)) {
    const database = await connectDatabase({ url });
    await database.close();
    return;
  }
  const client = new Client({
    ...toDatabaseConnection(url),
    application_name: "celery-metrics-exporter migrate",
    connectionTimeoutMillis: 15_000,
  });
  client.on("error", () => {}); // the statement that runs fails, and tells
  try {
    await client.connect();
    await client.query("select pg_advisory_lock($1)", [ADVISORY_LOCKS.migrate]);
    await client.query(`set lock_timeout = '${LOCK_TIMEOUT}'`);
    await applyMigrations(drizzle({ client }), { migrationsFolder: MIGRATIONS_FOLDER });
  } catch (thrown) {
    const { reason } = faultOf(thrown);
    throw new UnavailableError(`Cannot migrate PostgreSQL at ${redactUrl(url)} (${reason}).`);
  } finally {
    await client.end();
  }
}
