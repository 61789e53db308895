import { SHORT_LIVED } from "@celery-metrics-exporter/testkit";
import { sql } from "drizzle-orm";
import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { once } from "node:events";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { query, type Database } from "../../src/tables/database.ts";
import { copyEmbeddedDatabase } from "../../src/embedded/embedded-copy.ts";

let parent: string;
let folder: string;
let database: Database;

beforeAll(async () => {
  parent = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-test-"));
  folder = join(parent, "pglite");
  database = await connectDatabase({ url: `pglite:${folder}` });
  await database.drizzle.execute(sql`create table numbers (n int primary key)`);
});
afterAll(async () => {
  await database.close();
  rmSync(parent, { recursive: true, force: true });
});

async function numbersIn(place: Pick<Database, "drizzle">): Promise<number[]> {
  return (await query<{ n: number }>(place, sql`select n from numbers order by n`)).map(({ n }) => n);
}

async function insert(n: number): Promise<void> {
  await database.drizzle.execute(sql`insert into numbers values (${n})`);
}

/** @returns the folder of the copy. */
async function copyOfKilledProcess(): Promise<string> {
  const program = `import { copyEmbeddedDatabase } from ${JSON.stringify(new URL("../../dist/index.js", import.meta.url).href)};
    console.log((await copyEmbeddedDatabase(${JSON.stringify(`pglite:${folder}`)})).url); process.kill(process.pid, "SIGKILL");`;
  const child = promisify(execFile)(process.execPath, [...SHORT_LIVED, "--input-type=module", "--eval", program]);
  const { stdout } = await child.catch((thrown: unknown) => thrown as { stdout: string });
  return stdout.trim().slice("pglite:".length);
}

describe("a copy of an embedded database", () => {
  let writing = new AbortController();
  afterEach(() => writing.abort());

  it("contains everything committed, while the database is being written", async () => {
    writing = new AbortController();
    const written = (async () => {
      let n = 0;
      // PGlite itself never yields to other work of the process.
      for (; !writing.signal.aborted; n++) await insert(n).then(() => setImmediate());
      return n;
    })();
    await new Promise((resolve) => setTimeout(resolve, 200));
    const before = (await numbersIn(database)).length;
    const { url, remove } = await copyEmbeddedDatabase(`pglite:${folder}`);
    const copy = await connectDatabase({ url });
    const copied = await numbersIn(copy);
    // Changes to a copy stay in the copy.
    await copy.drizzle.execute(sql`delete from numbers`);
    await copy.close();
    writing.abort();
    const all = await written;
    expect(copied).toEqual(copied.map((_, index) => index));
    expect(copied.length).toBeGreaterThanOrEqual(before);
    expect(await numbersIn(database)).toHaveLength(all);
    expect(statSync(url.slice("pglite:".length)).mode & 0o777).toBe(0o700);
    remove();
    expect(readdirSync(parent)).toEqual(["pglite"]);
  });

  it("waits for a running statement, and lets the next one run when the copying is done or its process is gone", async () => {
    const socket = connect(join(folder, "celery-metrics-exporter.sock"));
    await once(socket, "data");
    let inserted = false;
    const inserting = insert(-1).then(() => (inserted = true));
    const copying = copyEmbeddedDatabase(`pglite:${folder}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(inserted).toBe(false);
    socket.destroy();
    await inserting;
    (await copying).remove();
  });

  it("can be made of a database that no process has open", async () => {
    const closed = join(parent, "closed");
    const writer = await connectDatabase({ url: `pglite:${closed}` });
    await writer.drizzle.execute(sql`create table numbers as select 7 as n`);
    await writer.close();
    const { url, remove } = await copyEmbeddedDatabase(`pglite:${closed}`);
    const copy = await connectDatabase({ url });
    expect(await numbersIn(copy)).toEqual([7]);
    await copy.close();
    remove();
    // The copy did not leave it locked.
    await (await connectDatabase({ url: `pglite:${closed}` })).close();
  }, 120_000);

  it("of a killed process is removed by the next copy, and nothing else is", async () => {
    const { url, remove } = await copyEmbeddedDatabase(`pglite:${folder}`);
    const left = await copyOfKilledProcess();
    const users = ["20261128", "4194304", "4194304-copy-4194304", basename(left).replace("pglite-copy-", "x")].map(
      (name) => `${folder}-copy-${name}`,
    );
    for (const copy of users) cpSync(left, copy, { recursive: true });
    mkdirSync(`${folder}-copy-4194303`);
    const other = await copyEmbeddedDatabase(`pglite:${folder}`);
    expect(existsSync(left)).toBe(false);
    for (const copy of [...users, url.slice("pglite:".length)]) expect(existsSync(join(copy, "PG_VERSION"))).toBe(true);
    expect(existsSync(`${folder}-copy-4194303`)).toBe(true);
    other.remove();
    remove();
  }, 120_000);

  it("cannot be made without a database", async () => {
    await expect(copyEmbeddedDatabase(`pglite:${join(parent, "nothing")}`)).rejects.toThrow(
      /There is no embedded database in .*nothing yet/,
    );
  });
});
