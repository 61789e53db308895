/**
 * A new embedded database, prepared by the build. PGlite takes several seconds of CPU time to initialise one, and one second to unpack it. Without the
 * file, it is initialised as usual.
 */
import { PGlite } from "@electric-sql/pglite";
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

// Found by the package, because an app's bundle contains this module in another place.
const packageFile = createRequire(import.meta.url).resolve("@celery-metrics-exporter/db/package.json");
const FOLDER = join(dirname(packageFile), "dist/embedded/empty");

/** Its name contains the version of PGlite, so that no other version opens it. */
const FILE = join(FOLDER, `pglite-${pgliteVersion()}.tar.gz`);

/** For `loadDataDir` of PGlite. Undefined if the build did not prepare it. */
export function emptyDatabase(): Blob | undefined {
  return existsSync(FILE) ? new Blob([readFileSync(FILE)], { type: "application/x-gzip" }) : undefined;
}

/** Prepares it, if that is not done yet for this version. Part of the build. */
export async function prepareEmptyDatabase(): Promise<void> {
  if (existsSync(FILE)) return;
  const client = await PGlite.create();
  const archive = Buffer.from(await (await client.dumpDataDir("gzip")).arrayBuffer());
  await client.close();
  mkdirSync(FOLDER, { recursive: true });
  const unfinished = `${FILE}.${process.pid}`;
  writeFileSync(unfinished, archive);
  for (const name of readdirSync(FOLDER)) if (name.endsWith(".tar.gz")) rmSync(join(FOLDER, name));
  renameSync(unfinished, FILE);
}

/** PGlite does not export its package.json. */
function pgliteVersion(): string {
  const module = createRequire(packageFile).resolve("@electric-sql/pglite");
  const { version } = JSON.parse(readFileSync(join(dirname(module), "../package.json"), "utf8")) as { version: string };
  return version;
}
