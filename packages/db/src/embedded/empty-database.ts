/**
 * A new embedded database, prepared by the build. PGlite takes several seconds of CPU time to initialise one, and one second to unpack it. Without the
 * file, it is initialised as usual.
 */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

// Found by the package, because an app's bundle contains this module in another place.
const packageFile = createRequire(import.meta.url).resolve("@celery-metrics-exporter/db/package.json");
/** Its name contains the version of PGlite, so that no other version opens it. */
export const EMPTY_DATABASE = join(dirname(packageFile), "dist/embedded/empty", `pglite-${pgliteVersion()}.tar.gz`);

/** For `loadDataDir` of PGlite. Undefined if the build did not prepare it. */
export function emptyDatabase(): Blob | undefined {
  return existsSync(EMPTY_DATABASE) ? new Blob([readFileSync(EMPTY_DATABASE)], { type: "application/x-gzip" }) : undefined;
}

/** PGlite does not export its package.json. */
function pgliteVersion(): string {
  const module = createRequire(packageFile).resolve("@electric-sql/pglite");
  const { version } = JSON.parse(readFileSync(join(dirname(module), "../package.json"), "utf8")) as { version: string };
  return version;
}
