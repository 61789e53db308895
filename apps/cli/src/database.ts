/** Which database the single process uses when none is named. */
import type { Environment } from "@celery-metrics-exporter/runtime";
import type { SettingsGroup } from "./settings.ts";

/** An embedded PostgreSQL in this folder, below the one the program is started in. */
export const EMBEDDED_DATABASE_URL = "pglite:./.data/pglite";

/** What the demo uses: gone with the process. */
export const DEMO_DATABASE_URL = "pglite:memory";

/** The environment with a `DATABASE_URL`, and whether it is the embedded one. */
export function withDatabase(
  env: Environment,
  embeddedUrl: string = EMBEDDED_DATABASE_URL,
): { readonly env: Environment; readonly isEmbedded: boolean } {
  const isGiven = (env["DATABASE_URL"] ?? "") !== "" || (env["DATABASE_URL_FILE"] ?? "") !== "";
  return isGiven ? { env, isEmbedded: false } : { env: { ...env, DATABASE_URL: embeddedUrl }, isEmbedded: true };
}

/** The settings with `DATABASE_URL` not required: alone, the postgres-processor has no database of its own. */
export function withDefaultDatabase(groups: readonly SettingsGroup[], defaultValue: string): SettingsGroup[] {
  return groups.map(({ title, settings }) => ({
    title,
    settings: settings.map((setting) => (setting.name === "DATABASE_URL" ? { ...setting, required: false, defaultValue } : setting)),
  }));
}
