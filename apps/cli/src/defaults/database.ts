/** Which database the single process uses when none is named. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Environment } from "@celery-metrics-exporter/runtime";
import { isSet, type Decision } from "./decision.ts";

/** An embedded PostgreSQL in this folder, below the one the program is started in. */
export const EMBEDDED_DATABASE_URL = "pglite:./.data/pglite";

/** The environment with a `DATABASE_URL`: the embedded one where none is named. */
export function withDatabase(env: Environment, embeddedUrl: string = EMBEDDED_DATABASE_URL): Decision {
  if (isSet("DATABASE_URL", env)) return { env };
  const isNew = !existsSync(join(embeddedUrl.slice("pglite:".length), "PG_VERSION"));
  return {
    env: { ...env, DATABASE_URL: embeddedUrl },
    note: {
      settings: ["DATABASE_URL"],
      // Nothing else is shown while it is created.
      isInPanel: !isNew,
      message: `DATABASE_URL is not set: ${isNew ? "creating an embedded PostgreSQL, which takes some seconds" : "using the embedded PostgreSQL"}`,
      fields: { database: embeddedUrl },
    },
  };
}
