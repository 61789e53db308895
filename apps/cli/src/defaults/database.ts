/** Which database the single process uses when none is named. */
import type { Environment } from "@celery-metrics-exporter/runtime";
import { isSet, type Decision } from "./decision.ts";

/** An embedded PostgreSQL in this folder, below the one the program is started in. */
export const EMBEDDED_DATABASE_URL = "pglite:./.data/pglite";

/** What the demo uses: gone with the process. */
export const DEMO_DATABASE_URL = "pglite:memory";

/** The environment with a `DATABASE_URL`: the embedded one where none is named. */
export function withDatabase(env: Environment, embeddedUrl: string = EMBEDDED_DATABASE_URL): Decision {
  if (isSet("DATABASE_URL", env)) return { env };
  return {
    env: { ...env, DATABASE_URL: embeddedUrl },
    note: {
      setting: "DATABASE_URL",
      isInPanel: true,
      message: "DATABASE_URL is not set: using the embedded PostgreSQL",
      fields: { database: embeddedUrl },
    },
  };
}
