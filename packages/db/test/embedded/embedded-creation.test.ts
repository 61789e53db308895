import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { SHORT_LIVED } from "@celery-metrics-exporter/testkit";
import { sql } from "drizzle-orm";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { copyEmbeddedDatabase } from "../../src/embedded/embedded-copy.ts";
import { createInFolder, lockForThisProcess, makePrivateFolder } from "../../src/embedded/private-folder.ts";
import { query } from "../../src/tables/database.ts";

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-test-"))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Kills a process once this file of the new database is there. */
async function killDuringCreation(file: string): Promise<void> {
  const program = `import { connectDatabase } from ${JSON.stringify(new URL("../../dist/index.js", import.meta.url).href)};
    await connectDatabase({ url: ${JSON.stringify(`pglite:${folder}`)} });`;
  const child = spawn(process.execPath, [...SHORT_LIVED, "--input-type=module", "--eval", program], { stdio: "ignore" });
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

it.each([
  ["no space left on the device", { name: "ErrnoError", errno: 51 }],
  ["error 8 of the file system", { name: "ErrnoError", errno: 8 }],
  ["it aborted", new Error("it aborted")],
])("a database that cannot be created is reported, and creating it again begins anew: %s", async (reason, thrown) => {
  const part = join(folder, "base");
  const failing = createInFolder(folder, () => {
    writeFileSync(part, "");
    return Promise.reject(thrown);
  });
  await expect(failing).rejects.toThrow(new UnavailableError(`Cannot create the embedded database in ${folder} (${reason}).`));
  makePrivateFolder(folder);
  expect(await createInFolder(folder, async () => existsSync(part))).toBe(false);
  expect(readdirSync(folder)).toEqual([]);
});

it("a folder that cannot be written is reported", async () => {
  const path = join(folder, "missing", "lock");
  await expect(lockForThisProcess(path, String)).rejects.toThrow(
    /^Cannot write .*lock \(ENOENT.*\)\. Choose a folder that you may write\.$/,
  );
});
