import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
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

describe("the migrations", () => {
  let copy = "";
  afterEach(() => rm(copy, { recursive: true, force: true }));

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
    ["is not set", "", /DATABASE_URL must name the database/],
    [
      "names a server that is not there",
      "postgres://someone:hunter2@127.0.0.1:9/celery",
      /Cannot connect to the database of DATABASE_URL.*ECONNREFUSED/,
    ],
    ["names an embedded database", "pglite:./data", /DATABASE_URL must name the database/],
  ])("says so when DATABASE_URL %s", async (_what, url, message) => {
    const failure = (await run(process.execPath, [drizzleKit, "migrate"], { cwd: root, env: { ...process.env, DATABASE_URL: url } }).catch(
      (thrown: unknown) => thrown,
    )) as { code: number; stdout: string; stderr: string };
    expect(failure.code).toBe(1);
    expect(failure.stdout + failure.stderr).toMatch(message);
    expect(failure.stdout + failure.stderr).not.toContain("hunter2");
  });
});
