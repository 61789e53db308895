/** Every kind of connection that PostgreSQL offers, with each user of the URL: a role, and the two commands that migrate. */
import { certificate, startPostgres, type PostgresServer } from "@celery-metrics-exporter/testkit";
import { execFile } from "node:child_process";
import { chmod, chown, stat, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { migrate } from "../../src/migrate/migrate.ts";

const ROOT = fileURLToPath(new URL("../../../..", import.meta.url));
const PASSWORD = "p@ss:/?#[]%+& ü'\"\\$";
const DATABASE = "of/all? #kinds";
const ACCESS = `
local all         peer_user     peer map=everyone
local all         all           trust
host  all         trusted       all trust
hostssl all       certified     all cert map=client
host  all         all           all scram-sha-256
`;

let server: PostgresServer;
let passwords = "";

beforeAll(async () => {
  server = await startPostgres({ durable: false, tls: true, args: ["-c", "listen_addresses=127.0.0.1,::1"] });
  const admin = new Client(server.url);
  await admin.connect();
  const { rows } = await admin.query<{ hba: string; ident: string }>(
    "select current_setting('hba_file') as hba, current_setting('ident_file') as ident",
  );
  const [files] = rows;
  if (files === undefined) throw new Error("no files");
  await write(files.hba, ACCESS);
  await write(files.ident, `everyone ${userInfo().username} peer_user\nclient /.* certified\n`);
  const me = admin.escapeIdentifier(userInfo().username);
  await admin.query(`create database ${admin.escapeIdentifier(DATABASE)}`);
  for (const role of ["peer_user", "trusted", "certified", me]) await admin.query(`create role ${role} superuser login`);
  await admin.query(`create role secretive superuser login password ${admin.escapeLiteral(PASSWORD)}`);
  await admin.query("select pg_reload_conf()");
  await admin.end();
  passwords = join(server.folder, "pgpass");
  await writeFile(passwords, `*:*:*:secretive:${PASSWORD.replaceAll(/[\\:]/g, String.raw`\$&`)}\n`, { mode: 0o600 });
});
afterAll(() => server.stop());
afterEach(() => vi.unstubAllEnvs());

/** Keeps the file's owner: the server runs as another user if the tests run as root. */
async function write(path: string, text: string): Promise<void> {
  const { uid, gid } = await stat(path);
  await writeFile(path, text);
  await chown(path, uid, gid);
  await chmod(path, 0o644);
}

const db = encodeURIComponent(DATABASE);
const secret = encodeURIComponent(PASSWORD);
const tls = `sslrootcert=${certificate("ca")}`;
const ours = `sslcert=${certificate("client")}&sslkey=${certificate("client-key")}`;

interface Form {
  readonly url: () => string;
  readonly env?: () => Readonly<Record<string, string>>;
}

const FORMS: Readonly<Record<string, Form>> = {
  "trust, without a password": { url: () => `postgres://trusted@127.0.0.1:${server.port}/${db}` },
  "an IPv6 address": { url: () => `postgresql://trusted@[::1]:${server.port}/${db}?sslmode=disable` },
  "a password of special characters": { url: () => `postgres://secretive:${secret}@localhost:${server.port}/${db}` },
  "a password in the settings": { url: () => `postgres://localhost/${db}?user=secretive&password=${secret}&port=${server.port}` },
  PGPASSWORD: { url: () => `postgres://secretive@127.0.0.1:${server.port}/${db}`, env: () => ({ PGPASSWORD: PASSWORD }) },
  PGPASSFILE: { url: () => `postgres://secretive@127.0.0.1:${server.port}/${db}`, env: () => ({ PGPASSFILE: passwords }) },
  "peer over a Unix socket": { url: () => `postgres://peer_user@/${db}?host=${server.folder}&port=${server.port}&sslmode=verify-full` },
  "a Unix socket as the host": { url: () => `postgres://peer_user@${encodeURIComponent(server.folder)}:${server.port}/${db}` },
  "the operating system's user": {
    url: () => `postgres:///${db}?host=${server.folder}&port=${server.port}`,
    env: () => ({ USER: "", LOGNAME: "" }),
  },
  "everything from the environment": {
    url: () => "postgres://",
    env: () => ({ PGHOST: server.folder, PGPORT: String(server.port), PGUSER: "peer_user", PGDATABASE: DATABASE }),
  },
  "a client's certificate": { url: () => `postgres://certified@localhost:${server.port}/${db}?sslmode=verify-full&${tls}&${ours}` },
  "a certificate and verify-ca": { url: () => `postgres://certified@127.0.0.1:${server.port}/${db}?sslmode=verify-ca&${tls}&${ours}` },
  "what Neon hands out": {
    url: () => `postgres://secretive:${secret}@localhost:${server.port}/${db}?sslmode=require&channel_binding=require&${tls}`,
  },
  "a schema": { url: () => `postgres://trusted@127.0.0.1:${server.port}/${db}?options=-c search_path=other -c statement_timeout=20s` },
};

type Way = (url: string) => Promise<void>;

const ourMigrate: Way = async (url) => void (await migrate(url));

/** Hands the URL as it is to a process that calls our `migrate`. What is not in the URL is the rest of the environment. */
const drizzleKitMigrate: Way = async (url) => {
  const { DATABASE_URL: _url, DATABASE_URL_FILE: _file, ...env } = process.env;
  await promisify(execFile)(process.execPath, ["node_modules/drizzle-kit/bin.cjs", "migrate"], {
    cwd: ROOT,
    env: { ...env, DATABASE_URL: url },
  });
};

describe("a role and the commands that migrate", () => {
  test.each(Object.entries(FORMS))("accept %s", { timeout: 120_000 }, async (name, form) => {
    for (const [variable, value] of Object.entries(form.env?.() ?? {})) vi.stubEnv(variable, value);
    const url = form.url();
    for (const apply of form.env === undefined ? [ourMigrate] : [ourMigrate, drizzleKitMigrate]) {
      await startAfresh();
      await apply(url);
      expect(await tables()).toEqual([name === "a schema" ? "other" : "public"]);
    }
    const database = await connectDatabase({ url, startupTimeoutMs: 0 });
    await database.ping().finally(() => database.close());
  });
});

async function startAfresh(): Promise<void> {
  await inDatabase("drop schema if exists other cascade; drop schema public cascade; create schema public; create schema other");
}

async function tables(): Promise<unknown[]> {
  return (await inDatabase("select schemaname from pg_tables where tablename = 'celery_task'")).map(({ schemaname }) => schemaname);
}

async function inDatabase(statement: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ host: server.folder, port: server.port, user: "trusted", database: DATABASE });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(statement)).rows;
  } finally {
    await client.end();
  }
}
