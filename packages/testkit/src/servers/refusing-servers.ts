/** Makes servers answer, but refuse every write. */
import { Redis } from "ioredis";
import { Client, escapeIdentifier } from "pg";

/** A full Redis refuses every write, even in scripts (`OOM`). */
export async function setRedisFull(url: string, isFull: boolean): Promise<void> {
  const redis = new Redis(url);
  await redis.config("SET", "maxmemory", isFull ? "1" : "0");
  redis.disconnect();
}

/** Refuses writes like a PostgreSQL that has become a standby. Ends the connections to the database, so that the next ones are refused. */
export async function setPostgresReadOnly(url: string, isReadOnly: boolean): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  const database = escapeIdentifier(new URL(url).pathname.slice(1));
  await client.query("SET default_transaction_read_only = off");
  await client.query(`ALTER DATABASE ${database} SET default_transaction_read_only = ${isReadOnly ? "on" : "off"}`);
  await client.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
  );
  await client.end();
}
