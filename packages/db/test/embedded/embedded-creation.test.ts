import { sql } from "drizzle-orm";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { copyEmbeddedDatabase } from "../../src/embedded/embedded-copy.ts";
import { query } from "../../src/tables/database.ts";

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-test-"))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Kills a process once this file of the new database is there. */
async function killDuringCreation(file: string): Promise<void> {
  const program = `import { connectDatabase } from ${JSON.stringify(new URL("../../dist/index.js", import.meta.url).href)};
    await connectDatabase({ url: ${JSON.stringify(`pglite:${folder}`)} });`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], { stdio: "ignore" });
  const ended = once(child, "exit");
  await expect.poll(() => readdirSync(folder), { interval: 1, timeout: 60_000 }).toContain(file);
  child.kill("SIGKILL");
  expect(await ended).toEqual([null, "SIGKILL"]);
}

// The first files, and the last ones.
it.each(["base", "PG_VERSION"])(
  "a process that is killed while it creates a database leaves nothing that the next one minds: %s",
  async (file) => {
    await killDuringCreation(file);
    await expect(copyEmbeddedDatabase(`pglite:${folder}`)).rejects.toThrow("There is no embedded database in");
    const database = await connectDatabase({ url: `pglite:${folder}` });
    expect(await query(database, sql`select count(*)::int as n from celery_task`)).toEqual([{ n: 0 }]);
    await database.close();
    expect(readdirSync(folder)).not.toContain("celery-metrics-exporter.unfinished");
  },
  180_000,
);
