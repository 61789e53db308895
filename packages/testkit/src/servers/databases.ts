/** Creates databases on the shared PostgreSQL. */
import { randomBytes } from "node:crypto";
import { Client } from "pg";
import { sharedPostgresUrl } from "./shared-servers.ts";

export interface TestDatabase {
  readonly url: string;
  /** Removes the database and ends its connections. */
  drop(): Promise<void>;
}

/** An empty database with a unique name; `options` are those of CREATE DATABASE. */
export async function createDatabase(options = ""): Promise<TestDatabase> {
  const name = `test_${randomBytes(8).toString("hex")}`;
  await administer(`CREATE DATABASE ${name} ${options}`);
  const url = new URL(sharedPostgresUrl());
  url.pathname = `/${name}`;
  return { url: url.href, drop: () => administer(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) };
}

async function administer(statement: string): Promise<void> {
  const client = new Client({ connectionString: sharedPostgresUrl() });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
