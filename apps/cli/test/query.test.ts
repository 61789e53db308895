import { connectDatabase, migrate, upsertTasks } from "@celery-metrics-exporter/db";
import { taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { createDatabase, type TestDatabase } from "@celery-metrics-exporter/testkit";
import { sql } from "drizzle-orm";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, openSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runCommand } from "../src/program.ts";
import { BIN, runProgram, startProgram } from "./harness.ts";

/** A busy machine takes a long time to start a program. */
const TIMEOUT_MS = 120_000;
const TASK_ID = "0b0e4d0a-7a0c-4f0e-9b0a-1c0d2e0f3a4b";

/** The output of the command, run in this process. */
async function outputOf(args: readonly string[], env: Readonly<Record<string, string>>): Promise<string> {
  let output = "";
  const plain = { isInteractive: false, columns: 100, bold: String, dim: String, green: String, red: String, yellow: String };
  await runCommand(["query", ...args], env, { ...plain, write: (text) => void (output += text) });
  return output;
}

function failure(code: string, message: string): object {
  return { code, message: expect.stringContaining(message) as string };
}

describe("on PostgreSQL", { timeout: TIMEOUT_MS }, () => {
  let created: TestDatabase;
  const query = (...args: string[]) => outputOf(args, { DATABASE_URL: created.url });
  const count = () => query("--json", "select count(*) as tasks from celery_task");

  beforeAll(async () => {
    created = await createDatabase();
    await migrate(created.url);
    const database = await connectDatabase({ url: created.url });
    await upsertTasks(database, [taskSucceeded({ uuid: TASK_ID })]);
    await database.drizzle.execute(
      sql`create procedure remove_all() language plpgsql as $$ begin commit; set transaction read write; delete from celery_task; end $$`,
    );
    await database.close();
  });
  afterAll(() => created.drop());

  it.each([
    ["commit; delete from celery_task; select 1", "cannot insert multiple commands into a prepared statement"],
    ["delete from celery_task", "query only reads: cannot execute DELETE in a read-only transaction."],
    ["update celery_task set status = 'FAILURE'", "query only reads: cannot execute UPDATE"],
    ["with gone as (delete from celery_task returning *) select * from gone", "query only reads: cannot execute SELECT"],
    ["explain analyze delete from celery_task", "query only reads: cannot execute DELETE"],
    ["select set_config('transaction_read_only', 'off', true), nextval('s') from celery_task", "The statement failed"],
    ["do $$ begin set transaction read write; delete from celery_task; end $$", "must be set before any query"],
    ["do $$ begin perform set_config('transaction_read_only', 'off', true); delete from celery_task; end $$", "The statement failed"],
    ["do $$ begin commit; delete from celery_task; end $$", "The statement failed"],
    ["call remove_all()", "The statement failed"],
    ["truncate celery_task", "query only reads"],
    ["selct 1", 'The statement failed: syntax error at or near "selct".'],
    ["select nam from celery_task", 'Perhaps you meant to reference the column "celery_task.name"'],
  ])("refuses %j, and leaves the rows", async (statement, message) => {
    await expect(query(statement)).rejects.toMatchObject(failure("ERR_USAGE", message));
    expect(await count()).toBe('{"tasks":1}\n');
  });

  it.each(["commit", "set transaction read write", "set default_transaction_read_only = off", "rollback", "begin read write"])(
    "runs nothing after %j",
    async (statement) => {
      expect(await query(statement)).toBe("(0 rows)\n");
      expect(await count()).toBe('{"tasks":1}\n');
    },
  );

  it("shows the whole ids of the latest tasks", async () => {
    const output = await query();
    expect(output.split("\n")[0]).toMatch(/^task_id +name/);
    expect(output).toContain(TASK_ID);
  });

  it("shows values that JavaScript cannot represent, and rounds only for people", async () => {
    const statement = `select 9007199254740993 as big, '\\xbeef'::bytea as bytes, 'NaN'::float8 as nan,
      avg(n) as avg, timestamptz '2026-01-02 03:04:05.678901+00' at time zone 'UTC' as at from (values (1), (2), (2)) as numbers(n)`;
    expect(JSON.parse(await query("--json", statement))).toEqual({
      big: "9007199254740993",
      bytes: "\\xbeef",
      nan: "NaN",
      avg: "1.6666666666666667",
      at: "2026-01-02 03:04:05.678901",
    });
    expect((await query(statement)).split("\n")[2]).toBe("9007199254740993  \\xbeef  NaN  1.666667  2026-01-02 03:04:05.678901");
  });

  it("shows all rows", async () => {
    expect(await query("select n from generate_series(1, 200000) as n")).toMatch(/\n200000\n\(200,000 rows\)\n$/);
  });

  it("succeeds when its reader has closed the pipe", async () => {
    const statement = "select n, repeat('x', 100) as x from generate_series(1, 100000) as n";
    const child = spawn(process.execPath, [BIN, "query", "--json", statement], {
      env: { PATH: process.env["PATH"], DATABASE_URL: created.url },
    });
    let errors = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
    child.stdout.once("data", () => child.stdout.destroy());
    const [exitCode] = (await once(child, "close")) as [number | null];
    expect({ exitCode, errors }).toEqual({ exitCode: 0, errors: "" });
  });

  it.each([["query", "select 1"], ["--help"], ["start", "--print-config"]])(
    "says that the disk is full and exits 1: %s %s",
    async (...args) => {
      const env = { PATH: process.env["PATH"], DATABASE_URL: created.url, CELERY_BROKER_URL: "amqp://localhost//" };
      const child = spawn(process.execPath, [BIN, ...args], { env, stdio: ["ignore", openSync("/dev/full", "w"), "pipe"] });
      let errors = "";
      child.stderr?.setEncoding("utf8").on("data", (text: string) => (errors += text));
      const [exitCode] = (await once(child, "close")) as [number | null];
      expect({ exitCode, errors }).toEqual({
        exitCode: 1,
        errors: expect.stringMatching(/^celery-metrics-exporter: Cannot write to standard output \(ENOSPC[^\n]*\n$/) as string,
      });
    },
  );

  it("exits 69 when the connection is lost during the statement", async () => {
    const running = startProgram(["query", "select pg_sleep(600)"], { env: { DATABASE_URL: created.url } });
    const database = await connectDatabase({ url: created.url });
    const end = sql`select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()`;
    const ended = async (): Promise<number> => {
      const result: unknown = await database.drizzle.execute(end);
      return (result as { rows: unknown[] }).rows.length;
    };
    await expect.poll(ended, { timeout: TIMEOUT_MS }).toBe(1);
    await database.close();
    expect(await running.exitCode).toBe(69);
    expect(running.errors()).toMatch(/^celery-metrics-exporter: PostgreSQL at .* is unavailable \(.*\)\. \[ERR_UNAVAILABLE\]\n$/);
  });

  it("says what to do if the database is not migrated, and that any other missing table is missing", async () => {
    const empty = await createDatabase();
    try {
      const env = { DATABASE_URL: empty.url };
      for (const args of [[], ["select * from celery_task"]]) {
        await expect(outputOf(args, env)).rejects.toMatchObject(failure("ERR_UNAVAILABLE", "Run `celery-metrics-exporter migrate`"));
      }
      await expect(outputOf(["select * from tasks"], env)).rejects.toMatchObject(failure("ERR_USAGE", 'relation "tasks" does not exist'));
    } finally {
      await empty.drop();
    }
  });
});

describe("on an embedded database", { timeout: TIMEOUT_MS }, () => {
  const parent = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-query-"));
  const env = { DATABASE_URL: `pglite:${join(parent, "pglite")}` };
  beforeAll(async () => (await connectDatabase({ url: env.DATABASE_URL })).close(), TIMEOUT_MS);
  afterAll(() => rmSync(parent, { recursive: true, force: true }));
  const copies = (): string[] => readdirSync(parent).filter((name) => /copy-[^/]*$/.test(name));

  it("shows numbers that JavaScript cannot represent", async () => {
    const statement = "select 9007199254740993 as big, avg(n) as avg from (values (1), (2), (2)) as numbers(n)";
    expect(await outputOf(["--json", statement], env)).toBe('{"big":"9007199254740993","avg":"1.6666666666666667"}\n');
    expect(await outputOf([statement], env)).toContain("\n9007199254740993  1.666667\n");
  });

  it("accepts one statement, which only reads", async () => {
    await expect(outputOf(["commit; select 1"], env)).rejects.toMatchObject(failure("ERR_USAGE", "multiple commands"));
    const { exitCode, errors } = await runProgram(["query", "delete from celery_task"], { env });
    expect({ exitCode, errors }).toEqual({
      exitCode: 64,
      errors: expect.stringContaining("query only reads: cannot execute DELETE") as string,
    });
    expect(errors).toMatch(/ See celery-metrics-exporter query --help\. \[ERR_USAGE\]\n$/);
  });

  it.each(["SIGINT", "SIGKILL"] as const)("leaves no copy behind when %s ends it", async (signal) => {
    const running = startProgram(["query", "select count(*) from generate_series(1, 100000000000)"], { env });
    await expect.poll(copies, { timeout: TIMEOUT_MS }).toHaveLength(1);
    // The guard is the child process that waits next to the statement.
    await expect.poll(() => childrenOf(running.pid), { timeout: TIMEOUT_MS, interval: 250 }).not.toBe("");
    running.signal(signal);
    await running.exitCode;
    await expect.poll(copies, { timeout: TIMEOUT_MS }).toEqual([]);
  });

  it("says what to do if there is no database", async () => {
    const none = outputOf([], { DATABASE_URL: `pglite:${join(parent, "none")}` });
    await expect(none).rejects.toMatchObject(failure("ERR_UNAVAILABLE", "Run `start` first, or set DATABASE_URL."));
    const memory = outputOf([], { DATABASE_URL: "pglite:memory" });
    await expect(memory).rejects.toMatchObject(failure("ERR_UNAVAILABLE", "no other process can read it"));
  });
});

function childrenOf(pid: number): string {
  try {
    return execFileSync("ps", ["--ppid", String(pid), "-o", "pid="], { encoding: "utf8" }).trim();
  } catch {
    return "";
  }
}
