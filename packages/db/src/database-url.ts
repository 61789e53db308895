/** Which URLs name a database. */
import { ConfigError, url } from "@celery-metrics-exporter/runtime";
import { tlsModeProblem } from "./database-connection.ts";

const postgresUrl = url(["postgres", "postgresql"]);

/** Whether the URL names PGlite, the database embedded in this process. */
export function isEmbedded(value: string): boolean {
  return value.startsWith("pglite:");
}

/** What is wrong with a database's URL, without the password; undefined where nothing is. */
export function databaseUrlProblem(value: string): string | undefined {
  if (isEmbedded(value)) return undefined;
  if (!/^postgres(ql)?:\/\//.test(value)) {
    return "must be a URL that starts with postgres:// or postgresql://, or pglite:memory or pglite:<folder>";
  }
  // `user@/database?host=/run/postgresql` is how a Unix socket is named; the driver puts a host there too (pg-connection-string).
  const withHost = value.replace("@/", "@socket/");
  return postgresUrl.safeParse(withHost).error?.issues[0]?.message ?? tlsModeProblem(value);
}

/** @throws {ConfigError} when the URL names no database that we can use. */
export function checkDatabaseUrl(value: string): void {
  const problem = databaseUrlProblem(value);
  if (problem !== undefined) throw new ConfigError([`DATABASE_URL: ${problem}`]);
}
