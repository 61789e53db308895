/** The last step of the build: prepares an empty database, if that is not done yet for this version of PGlite. */
import { PGlite } from "@electric-sql/pglite";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { EMPTY_DATABASE } from "./empty-database.ts";

if (!existsSync(EMPTY_DATABASE)) {
  const client = await PGlite.create();
  const archive = Buffer.from(await (await client.dumpDataDir("gzip")).arrayBuffer());
  await client.close();
  const folder = dirname(EMPTY_DATABASE);
  mkdirSync(folder, { recursive: true });
  const unfinished = `${EMPTY_DATABASE}.${process.pid}`;
  writeFileSync(unfinished, archive);
  for (const name of readdirSync(folder)) if (name.endsWith(".tar.gz")) rmSync(join(folder, name));
  renameSync(unfinished, EMPTY_DATABASE);
}
