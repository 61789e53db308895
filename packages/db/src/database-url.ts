/** Which URLs name a database. */
import { ConfigError } from "@celery-metrics-exporter/runtime";
import { tlsModeProblem } from "./database-connection.ts";
import { parseDatabaseUrl } from "./database-url-parts.ts";
import { settingsProblem } from "./database-url-settings.ts";

/** Whether the URL names PGlite, the database embedded in this process. */
export function isEmbedded(value: string): boolean {
  return value.startsWith("pglite:");
}

/** What is wrong with a database's URL, without the password; undefined where nothing is. Reads no files. */
export function databaseUrlProblem(value: string): string | undefined {
  if (isEmbedded(value)) return undefined;
  if (!/^postgres(ql)?:\/\//.test(value)) {
    return "must be a URL that starts with postgres:// or postgresql://, or pglite:memory or pglite:<folder>";
  }
  const parsed = parseDatabaseUrl(value);
  if (!parsed.ok) return parsed.problem;
  const { settings } = parsed.parts;
  return settingsProblem(settings) ?? tlsModeProblem(settings);
}

/** @throws {ConfigError} when the URL names no database that we can use. */
export function checkDatabaseUrl(value: string): void {
  const problem = databaseUrlProblem(value);
  if (problem !== undefined) throw new ConfigError([`DATABASE_URL: ${problem}`]);
}
