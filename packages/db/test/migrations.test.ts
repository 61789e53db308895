import { createDatabase } from "@celery-metrics-exporter/testkit";
import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import { checkMigrated } from "../src/check-migrated.ts";
import { connectDatabase } from "../src/connect-database.ts";
import { MIGRATIONS_FOLDER } from "../src/migrations-folder.ts";

const root = fileURLToPath(new URL("../../..", import.meta.url));
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
  test("are what the schema needs: drizzle-kit finds nothing to add", async () => {
    // drizzle-kit takes only a path below the folder it runs in.
    copy = await mkdtemp(join(root, "drizzle-test-"));
    await cp(MIGRATIONS_FOLDER, copy, { recursive: true });
    const before = await readdir(copy);
    const schema = "./packages/db/src/schema.ts";
    const out = `./${copy.slice(root.length)}`;
    await run(process.execPath, [drizzleKit, "generate", "--dialect", "postgresql", "--schema", schema, "--out", out], { cwd: root });
    expect(await readdir(copy)).toEqual(before);
  });

  test("are in the order of their time, for the migrator skips one that is older than the last applied", async () => {
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

describe("pnpm drizzle-kit migrate", () => {
  test.each([
    ["is not set", "", 78, /DATABASE_URL: is required, such as postgres:/],
    [
      "names a server that is not there",
      "postgres://someone:hunter2@127.0.0.1:9/celery",
      69,
      /Cannot migrate PostgreSQL at postgres:\/\/\*\*\*@127\.0\.0\.1:9\/celery: connect ECONNREFUSED .* Start it, or set DATABASE_URL\./,
    ],
    ["names an embedded database", "pglite:./data", 78, /DATABASE_URL: must be a URL that starts with postgres:/],
    ["cannot be read", "postgres://someone:hunter2/x@127.0.0.1/celery", 78, /DATABASE_URL: .*password.*%2F/],
  ])("says so, without a stack, when DATABASE_URL %s", async (_what, url, code, message) => {
    const failure = await migrateWith({ DATABASE_URL: url });
    expect(failure.output).toMatch(message);
    expect(failure.output).not.toMatch(/hunter2|^\s+at /m);
    expect(failure.code).toBe(code);
  });

  test("takes the URL from the file that DATABASE_URL_FILE names", async () => {
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
