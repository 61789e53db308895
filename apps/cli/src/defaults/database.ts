/** Chooses the database of the single process if none is set. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Environment } from "@celery-metrics-exporter/runtime";
import { isSet, type Decision } from "./decision.ts";

/** An embedded PostgreSQL in this folder, relative to the working directory. */
export const EMBEDDED_DATABASE_URL = "pglite:./.data/pglite";

/** The environment with a `DATABASE_URL`: the embedded database if none is set. */
export function withDatabase(env: Environment, embeddedUrl: string = EMBEDDED_DATABASE_URL): Decision {
  if (isSet("DATABASE_URL", env)) return { env };
  const isNew = !existsSync(join(embeddedUrl.slice("pglite:".length), "PG_VERSION"));
  return {
    env: { ...env, DATABASE_URL: embeddedUrl },
    note: {
      settings: ["DATABASE_URL"],
      // Creating it takes seconds in which no other output appears.
      isInPanel: !isNew,
      message: `DATABASE_URL is not set: ${isNew ? "creating an embedded PostgreSQL, which takes a few seconds" : "using the embedded PostgreSQL"}`,
      fields: { database: embeddedUrl },
    },
  };
}
