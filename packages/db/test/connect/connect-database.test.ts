import { TimedOutError, UnavailableError } from "@celery-metrics-exporter/runtime";
import { createDatabase, startPostgres } from "@celery-metrics-exporter/testkit";
import { taskSent } from "@celery-metrics-exporter/celery/testing";
import { sql } from "drizzle-orm";
import { chmod, mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { query, type Database } from "../../src/tables/database.ts";
import { migrate } from "../../src/migrate/migrate.ts";
import { upsertTasks } from "../../src/merge/upsert.ts";

async function failureOf(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => new Error("nothing was thrown"),
    (thrown: unknown) => thrown as Error,
  );
}

async function withDatabase(work: (database: Database, url: string) => Promise<void>): Promise<void> {
  const created = await createDatabase();
  const database = await connectDatabase({ url: created.url, poolSize: 2, statementTimeoutMs: 500 });
  try {
    await work(database, created.url);
  } finally {
    await database.close();
    await created.drop();
  }
}

describe("connectDatabase", () => {
  test("waits for an unavailable server up to the startup timeout, then says what to do", async () => {
    const begun = Date.now();
    const error = await failureOf(connectDatabase({ url: "postgres://someone:hunter2@127.0.0.1:9/celery", startupTimeoutMs: 700 }));
    expect(error).toBeInstanceOf(UnavailableError);
    expect(error.message).toMatch(
      /^Cannot use PostgreSQL at postgres:\/\/\*\*\*@127\.0\.0\.1:9\/celery \(connect ECONNREFUSED.*Start it, or set DATABASE_URL\.$/,
    );
    expect(Date.now() - begun).toBeGreaterThan(200);
    expect(Date.now() - begun).toBeLessThan(5_000);
  });

  test("connects to a server that starts late", async () => {
    const server = await startPostgres({ durable: false });
    await server.kill();
    const connecting = connectDatabase({ url: server.url, startupTimeoutMs: 30_000 });
    await server.restart();
    const database = await connecting;
    expect(await query(database, sql`select 1 as one`)).toEqual([{ one: 1 }]);
    await database.close();
    await server.stop();
  });

  test("reports a name that does not exist at once", async () => {
    const created = await createDatabase();
    const wrong = new URL(created.url);
    wrong.pathname = "/no_such_database";
    const begun = Date.now();
    const error = await failureOf(connectDatabase({ url: wrong.href, startupTimeoutMs: 20_000 }));
    expect(error.message).toMatch(
      /database "no_such_database" does not exist \(SQLSTATE 3D000\)\)\. Create it \(CREATE DATABASE\), or correct DATABASE_URL\.$/,
    );
    expect(Date.now() - begun).toBeLessThan(5_000);
    await created.drop();
  });

  test.each([["LATIN1"], ["SQL_ASCII"]])("rejects a database in %s, which could not store many events", async (encoding) => {
    const created = await createDatabase(`ENCODING '${encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'`);
    for (const work of [() => connectDatabase({ url: created.url }), () => migrate(created.url)]) {
      await expect(work()).rejects.toMatchObject({
        code: "ERR_UNAVAILABLE",
        message: expect.stringMatching(`encoding must be UTF8, but is ${encoding}: create another one with CREATE DATABASE`) as string,
      });
    }
    await created.drop();
  });

  test("shows its name in pg_stat_activity", () =>
    withDatabase(async (database) => {
      const [row] = await query<{ name: string }>(database, sql`select current_setting('application_name') as name`);
      expect(row?.name).toBe("celery-metrics-exporter");
    }));

  test("cancels a statement that takes too long, as unavailable", () =>
    withDatabase(async (database) => {
      const error = await failureOf(query(database, sql`select pg_sleep(20)`));
      expect(error).toBeInstanceOf(TimedOutError);
      expect(error.message).toContain("57014");
    }));

  test("survives when the server closes its connections, and closes twice", () =>
    withDatabase(async (database, url) => {
      await migrate(url);
      await upsertTasks(database, [taskSent()]);
      const other = await connectDatabase({ url });
      await query(
        other,
        sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`,
      );
      await other.close();
      await expect.poll(() => upsertTasks(database, [taskSent()]).catch((error: unknown) => error)).toBe(1);
      await database.close();
      await database.close();
    }));

  test("does not hang when closing because a server has stopped answering", async () => {
    // Accepts connections and never answers, like a frozen server.
    const sockets: { destroy(): void }[] = [];
    const silent = createServer((socket) => sockets.push(socket));
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const address = silent.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const error = await failureOf(connectDatabase({ url: `postgres://x@127.0.0.1:${port}/x`, startupTimeoutMs: 1 }));
    expect(error.message).toMatch(/timeout/);
    for (const socket of sockets) socket.destroy();
    silent.close();
  });
});

describe("PGlite", () => {
  test("is migrated automatically, shared within the process, and kept in its folder", async () => {
    const folder = await mkdtemp(join(tmpdir(), "cme-pglite-"));
    const url = `pglite:${join(folder, "below/data")}`;
    try {
      const [first, second] = await Promise.all([connectDatabase({ url }), connectDatabase({ url })]);
      await upsertTasks(first, [taskSent()]);
      await first.close();
      await first.close();
      expect(await query(second, sql`select count(*)::int as rows from celery_task`)).toEqual([{ rows: 1 }]);
      await second.close();
      const again = await connectDatabase({ url });
      expect(await query(again, sql`select count(*)::int as rows from celery_task`)).toEqual([{ rows: 1 }]);
      await again.close();
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }, 120_000);

  test.runIf(process.platform !== "win32")(
    "keeps its folder private regardless of the umask, and repairs one that was open",
    async () => {
      const folder = await mkdtemp(join(tmpdir(), "cme-pglite-"));
      const data = join(folder, "data");
      const url = `pglite:${data}`;
      const modes = async (): Promise<string[]> => {
        const paths = [data, ...(await readdir(data, { recursive: true })).map((name) => join(data, name))];
        const open = await Promise.all(paths.map(async (path) => ({ path, mode: (await stat(path)).mode & 0o777 })));
        return open.filter(({ mode }) => (mode & 0o077) !== 0).map(({ path, mode }) => `${path} ${mode.toString(8)}`);
      };
      const umask = process.umask(0);
      try {
        await connectDatabase({ url }).then((database) => database.close());
        expect((await stat(data)).mode & 0o777).toBe(0o700);
        expect(await modes()).toEqual([]);
        await chmod(data, 0o777);
        await chmod(join(data, "PG_VERSION"), 0o666);
        await connectDatabase({ url }).then((database) => database.close());
        expect(await modes()).toEqual([]);
      } finally {
        process.umask(umask);
        await rm(folder, { recursive: true, force: true });
      }
    },
    120_000,
  );

  test.runIf(process.platform !== "win32")(
    "rejects a folder with other contents, and leaves it unchanged",
    async () => {
      const folder = await mkdtemp(join(tmpdir(), "cme-pglite-"));
      const notes = join(folder, "notes.txt");
      try {
        await writeFile(notes, "mine");
        for (const path of [folder, notes]) await chmod(path, 0o755);
        const error = await failureOf(connectDatabase({ url: `pglite:${folder}` }));
        expect(error).toBeInstanceOf(UnavailableError);
        expect(error.message).toBe(
          `${folder} contains notes.txt but no embedded database. Choose an empty folder or one that does not exist yet, such as pglite:${folder}/data.`,
        );
        for (const path of [folder, notes]) expect((await stat(path)).mode & 0o777).toBe(0o755);
        expect(await readdir(folder)).toEqual(["notes.txt"]);
        const file = await failureOf(connectDatabase({ url: `pglite:${notes}` }));
        expect(file.message).toMatch(/Cannot read .*notes\.txt \(.*ENOTDIR.*Choose a folder that you own\.$/);
        // A process that was killed before it created the database leaves its lock.
        await rm(notes);
        await writeFile(join(folder, "celery-metrics-exporter.pid"), "4194304\n");
        await connectDatabase({ url: `pglite:${folder}` }).then((database) => database.close());
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
    120_000,
  );

  test("is loaded only if a URL requests it, because it takes hundreds of megabytes", async () => {
    const folder = new URL("../../src/", import.meta.url);
    const mentions: Record<string, string[]> = {};
    for (const file of await readdir(folder, { recursive: true })) {
      if (!file.endsWith(".ts")) continue;
      const lines = (await readFile(new URL(file, folder), "utf8")).split("\n");
      const found = lines
        .filter((line) => /pglite"|pglite\/|embedded-database/.test(line) && !line.startsWith("import type"))
        .map((line) => line.trim());
      if (found.length > 0 && !file.startsWith("embedded/")) mentions[file] = found;
    }
    expect(mentions).toEqual({
      "connect/connect-database.ts": ['const { openEmbeddedDatabase } = await import("../embedded/embedded-database.ts");'],
    });
  });
});
