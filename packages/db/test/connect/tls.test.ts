/** TLS to a real PostgreSQL, in each way the URL is used. Its certificate is valid only for `localhost`, and it requires a client certificate. */
import { type PostgresServer, certificate, startPostgres } from "@celery-metrics-exporter/testkit";
import { sql } from "drizzle-orm";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkMigrated, migrate } from "../../src/migrate/migrate.ts";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { query } from "../../src/tables/database.ts";

const ROOT = fileURLToPath(new URL("../../../..", import.meta.url));
const AUTHORITY = `sslrootcert=${certificate("ca")}`;
const CLIENT = `sslcert=${certificate("client")}&sslkey=${certificate("client-key")}`;

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres({ durable: false, tls: true });
  await administer("create database celery");
});

afterAll(() => server.stop());

async function administer(statement: string): Promise<void> {
  const client = new Client({ connectionString: server.url });
  await client.connect();
  await client.query(statement);
  await client.end();
}

function url(host: string, settings: string, database = "celery"): string {
  const { password } = new URL(server.url);
  return `postgres://postgres:${password}@${host}:${server.port}/${database}?${settings}`;
}

/** The encryption of the connection, according to the server. */
async function connect(value: string): Promise<unknown> {
  const database = await connectDatabase({ url: value, startupTimeoutMs: 20_000 });
  try {
    return await query(database, sql`select ssl, client_dn is not null as known from pg_stat_ssl where pid = pg_backend_pid()`);
  } finally {
    await database.close();
  }
}

describe("PostgreSQL over TLS", () => {
  test.each([
    ["verify-full", "localhost", `sslmode=verify-full&${AUTHORITY}&${CLIENT}`],
    ["require, which is as strict", "localhost", `sslmode=require&${AUTHORITY}&${CLIENT}`],
    ["only certificates", "localhost", `${AUTHORITY}&${CLIENT}`],
    ["verify-ca under another name", "127.0.0.1", `sslmode=verify-ca&${AUTHORITY}&${CLIENT}`],
    ["a name at another's address", "localhost", `hostaddr=127.0.0.1&sslmode=verify-full&${AUTHORITY}&${CLIENT}`],
    ["no-verify", "127.0.0.1", `sslmode=no-verify&${CLIENT}`],
    ["libpq's own meaning of require", "127.0.0.1", `uselibpqcompat=true&sslmode=require&${CLIENT}`],
  ])("connects with %s", async (_what, host, settings) => {
    expect(await connect(url(host, settings))).toEqual([{ ssl: true, known: true }]);
  });

  test("does not encrypt with disable", async () => {
    expect(await connect(url("127.0.0.1", "sslmode=disable", "postgres"))).toEqual([{ ssl: false, known: false }]);
  });

  test.each([
    ["an unknown authority", "localhost", `sslmode=verify-full&${CLIENT}`, /not trusted.*sslrootcert/],
    ["another authority", "localhost", `sslmode=verify-ca&sslrootcert=${certificate("other-ca")}&${CLIENT}`, /not trusted.*sslrootcert/],
    ["a certificate for another host", "127.0.0.1", `sslmode=verify-full&${AUTHORITY}&${CLIENT}`, /for another host.*sslmode=verify-ca/],
    ["the same with require", "127.0.0.1", `sslmode=require&${AUTHORITY}&${CLIENT}`, /for another host.*hostaddr/],
    [
      "a connection without a client certificate",
      "localhost",
      `sslmode=verify-full&${AUTHORITY}`,
      /requires a valid client certificate.*sslcert/,
    ],
    [
      "a client certificate from another authority",
      "localhost",
      `sslmode=verify-full&${AUTHORITY}&sslcert=${certificate("stranger")}&sslkey=${certificate("stranger-key")}`,
      /does not accept our client certificate.*sslcert/,
    ],
    ["an unencrypted connection", "localhost", "sslmode=disable", /no pg_hba.conf entry.*no encryption/],
  ])("rejects %s at once, and says what to set", async (_what, host, settings, message) => {
    const { password } = new URL(server.url);
    const error = await connect(url(host, settings)).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "ERR_UNAVAILABLE", message: expect.stringMatching(message) as string });
    expect(String(error)).not.toContain(password);
  });

  test.each([
    ["sslmode=prefer", /DATABASE_URL: sslmode=prefer may fall back/],
    ["sslmode=full", /DATABASE_URL: sslmode must be disable, require/],
    ["sslrootcert=/nowhere/ca.pem", /DATABASE_URL: sslrootcert names a file that cannot be read \(ENOENT\): \/nowhere\/ca\.pem/],
    [`sslcert=${certificate("client")}&sslkey=/nowhere/key.pem`, /DATABASE_URL: sslkey names a file.*\/nowhere\/key\.pem/],
    [`sslkey=${certificate("client-key")}`, /DATABASE_URL: sslkey requires sslcert/],
  ])("treats %s as a configuration error", async (settings, message) => {
    await expect(connect(url("localhost", settings))).rejects.toMatchObject({
      code: "ERR_CONFIG_INVALID",
      message: expect.stringMatching(message) as string,
    });
  });
});

describe("the migrations over TLS, and over a Unix socket", () => {
  const ways = {
    "the cli's migrate": migrate,
    "drizzle-kit migrate": async (value: string) => {
      const { DATABASE_URL: _url, DATABASE_URL_FILE: _file, ...inherited } = process.env;
      const command = ["node_modules/drizzle-kit/bin.cjs", "migrate"];
      await promisify(execFile)(process.execPath, command, { cwd: ROOT, env: { ...inherited, DATABASE_URL: value } });
    },
  };

  test.each(Object.entries(ways))("%s accepts the same URLs", { timeout: 120_000 }, async (_name, apply) => {
    const database = `migrated_${Object.values(ways).indexOf(apply)}`;
    await administer(`create database ${database}`);
    const { password } = new URL(server.url);
    await apply(url("localhost", `sslmode=verify-full&${AUTHORITY}&${CLIENT}`, database));
    await administer(`alter database ${database} rename to renamed_${database}`);
    await apply(`postgres://postgres:${password}@/renamed_${database}?host=${server.folder}&port=${server.port}&sslmode=verify-full`);
    const opened = await connectDatabase({ url: url("localhost", `${AUTHORITY}&${CLIENT}`, `renamed_${database}`) });
    await expect(checkMigrated(opened).finally(() => opened.close())).resolves.toBeUndefined();
  });
});
