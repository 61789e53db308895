import { createDatabase } from "@celery-metrics-exporter/testkit";
import { drizzle } from "drizzle-orm/node-postgres";
import { migrate as applyMigrations } from "drizzle-orm/node-postgres/migrator";
import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Client } from "pg";
import { afterEach, describe, expect, test } from "vitest";
import { checkMigrated, migrate } from "../../src/migrate/migrate.ts";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { MIGRATIONS_FOLDER } from "../../src/migrate/apply-migrations.ts";

const root = fileURLToPath(new URL("../../../..", import.meta.url));
const drizzleKit = join(root, "node_modules/drizzle-kit/bin.cjs");
const run = promisify(execFile);

interface Journal {
  readonly entries: readonly { readonly idx: number; readonly when: number; readonly tag: string }[];
}

async function readJournal(folder: string): Promise<Journal> {
  return JSON.parse(await readFile(join(folder, "meta/_journal.json"), "utf8")) as Journal;
}

let copy = "";
afterEach(() => rm(copy, { recursive: true, force: true }));

describe("the migrations", () => {
  test("match the schema: drizzle-kit finds nothing to add", async () => {
    // drizzle-kit accepts only a path below its working directory.
    copy = await mkdtemp(join(root, "drizzle-test-"));
    await cp(MIGRATIONS_FOLDER, copy, { recursive: true });
    const before = await readdir(copy);
    const schema = "./packages/db/src/tables/schema.ts";
    const out = `./${copy.slice(root.length)}`;
    await run(process.execPath, [drizzleKit, "generate", "--dialect", "postgresql", "--schema", schema, "--out", out], { cwd: root });
    expect(await readdir(copy)).toEqual(before);
  });

  test("name no schema, so that the table can be in any", async () => {
    const { entries } = await readJournal(MIGRATIONS_FOLDER);
    for (const { tag } of entries) expect(await readFile(join(MIGRATIONS_FOLDER, `${tag}.sql`), "utf8")).not.toMatch(/\bpublic\b/);
  });

  test("are in order of time, because the migrator skips one older than the last applied", async () => {
    const { entries } = await readJournal(MIGRATIONS_FOLDER);
    const times = entries.map(({ when }) => when);
    expect(times).toEqual([...new Set(times)].sort((a, b) => a - b));
    expect(entries.map(({ idx }) => idx)).toEqual(entries.map((_, index) => index));
  });

  test("are all in the journal", async () => {
    const { entries } = await readJournal(MIGRATIONS_FOLDER);
    const files = (await readdir(MIGRATIONS_FOLDER)).filter((file) => file.endsWith(".sql"));
    expect(files.sort()).toEqual(entries.map(({ tag }) => `${tag}.sql`));
  });
});

describe("a table with rows from an earlier release", () => {
  test("gets the later columns, and the duration of its successes", async () => {
    const created = await createDatabase();
    // No pool: it ends before its connections do, and dropping the database would then break them with an error.
    const client = new Client({ connectionString: created.url });
    await client.connect();
    try {
      await migrateUpTo("0001_storage_settings", client);
      await client.query(`insert into celery_task (task_id, name, queue, status, sent_at, started_at, runtime, last_event_at, state_precedence, state_rank, state_at, state_hostname)
        values ('a', 'shop.pay', 'q', 'SUCCESS', now(), now(), 1.5, now(), 3, 7, now(), 'w'), ('b', 'shop.pay', 'q', 'FAILURE', now(), now(), null, now(), 3, 6, now(), 'w')`);
      await migrate(created.url);
      const { rows } = await client.query("select task_id, name, queue, duration from celery_task order by 1");
      expect(rows).toEqual([
        { task_id: "a", name: "shop.pay", queue: "q", duration: 1.5 },
        { task_id: "b", name: "shop.pay", queue: "q", duration: null },
      ]);
    } finally {
      await client.end();
      await created.drop();
    }
  });
});

/** Applies the migrations like the release whose last migration this was. */
async function migrateUpTo(tag: string, client: Client): Promise<void> {
  copy = await mkdtemp(join(tmpdir(), "cme-migrations-"));
  await cp(MIGRATIONS_FOLDER, copy, { recursive: true });
  const journal = await readJournal(copy);
  const entries = journal.entries.slice(0, journal.entries.findIndex((entry) => entry.tag === tag) + 1);
  await writeFile(join(copy, "meta/_journal.json"), JSON.stringify({ ...journal, entries }));
  await applyMigrations(drizzle({ client }), { migrationsFolder: copy });
}

describe("pnpm drizzle-kit migrate", () => {
  test.each([
    ["is not set", "", 78, /DATABASE_URL: is required, such as postgres:/],
    [
      "names an unavailable server",
      "postgres://someone:hunter2@127.0.0.1:9/celery",
      69,
      /Cannot migrate PostgreSQL at postgres:\/\/\*\*\*@127\.0\.0\.1:9\/celery: connect ECONNREFUSED .* Start it, or set DATABASE_URL\./,
    ],
    ["names an embedded database", "pglite:./data", 78, /DATABASE_URL: must be a URL that starts with postgres:/],
    ["is invalid", "postgres://someone:hunter2/x@127.0.0.1/celery", 78, /DATABASE_URL: .*password.*%2F/],
  ])("reports, without a stack, that DATABASE_URL %s", async (_what, url, code, message) => {
    const failure = await migrateWith({ DATABASE_URL: url });
    expect(failure.output).toMatch(message);
    expect(failure.output).not.toMatch(/hunter2|^\s+at /m);
    expect(failure.code).toBe(code);
  });

  test("reads the URL from the file in DATABASE_URL_FILE", async () => {
    const created = await createDatabase();
    copy = await mkdtemp(join(tmpdir(), "cme-url-"));
    const file = join(copy, "url");
    await writeFile(file, `${created.url}\n`);
    try {
      const { code, output } = await migrateWith({ DATABASE_URL_FILE: file });
      expect(output).not.toContain(new URL(created.url).password || "no password");
      expect(code).toBe(0);
      const database = await connectDatabase({ url: created.url });
      await checkMigrated(database).finally(() => database.close());
    } finally {
      await created.drop();
    }
  });
});

async function migrateWith(env: Readonly<Record<string, string>>): Promise<{ readonly code: number; readonly output: string }> {
  const { DATABASE_URL: _url, DATABASE_URL_FILE: _file, ...inherited } = process.env;
  try {
    const { stdout, stderr } = await run(process.execPath, [drizzleKit, "migrate"], { cwd: root, env: { ...inherited, ...env } });
    return { code: 0, output: stdout + stderr };
  } catch (thrown) {
    const { code, stdout, stderr } = thrown as { code: number; stdout: string; stderr: string };
    return { code, output: stdout + stderr };
  }
}
