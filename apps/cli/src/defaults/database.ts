/** Which database the single process uses when none is named. */
import type { Environment } from "@celery-metrics-exporter/runtime";
import type { SettingsGroup } from "../settings.ts";
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
    note: { message: "DATABASE_URL is not set: using the embedded PostgreSQL", fields: { database: embeddedUrl } },
  };
}

/** The settings with `DATABASE_URL` not required: alone, the postgres-processor has no database of its own. */
export function withDefaultDatabase(groups: readonly SettingsGroup[], defaultValue: string): SettingsGroup[] {
  return groups.map(({ title, settings }) => ({
    title,
    settings: settings.map((setting) => (setting.name === "DATABASE_URL" ? { ...setting, required: false, defaultValue } : setting)),
  }));
}
