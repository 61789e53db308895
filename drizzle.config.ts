/**
 * For drizzle-kit: `pnpm drizzle-kit generate` writes a migration into `drizzle/`, `pnpm drizzle-kit migrate` applies them to DATABASE_URL.
 *
 * The latter runs `celery-metrics-exporter migrate`, because drizzle-kit's own migrator (0.31) takes no lock, exits without a word when it
 * cannot connect, needs the right to create schemas, and reports success without a look at the table.
 */
import { defineConfig } from "drizzle-kit";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { toDatabaseCredentials, type DatabaseCredentials } from "./packages/db/src/connect/connection.ts";
import { checkDatabaseUrl, isEmbedded } from "./packages/db/src/connect/database-url.ts";
import { ConfigError, readSetting } from "./packages/runtime/src/index.ts";

const [, , command = ""] = process.argv;

if (command === "migrate") {
  exitWhereWrong(databaseUrl);
  const program = fileURLToPath(new URL("apps/cli/bin/celery-metrics-exporter.js", import.meta.url));
  // drizzle-kit reads this file synchronously, so the program is a process of its own.
  const { status, error } = spawnSync(process.execPath, [program, "migrate"], { stdio: "inherit" });
  if (error !== undefined) throw error;
  process.exit(status ?? 1);
}

export default defineConfig({
  dialect: "postgresql",
  schema: "./packages/db/src/tables/schema.ts",
  out: "./drizzle",
  dbCredentials: ["push", "pull", "studio"].includes(command) ? credentials() : { url: "" },
});

function credentials(): Omit<DatabaseCredentials, "options"> {
  const { options, ...parts } = exitWhereWrong(() => toDatabaseCredentials(databaseUrl()));
  // drizzle-kit does not pass them on; the driver takes them from here.
  if (options !== undefined) process.env["PGOPTIONS"] = options;
  return parts;
}

/** An embedded database migrates itself when it is opened. */
function databaseUrl(): string {
  const url = readSetting("DATABASE_URL", process.env);
  if (url === undefined) throw new ConfigError(["DATABASE_URL: is required, such as postgres://user:password@127.0.0.1:5432/celery"]);
  if (isEmbedded(url)) throw new ConfigError(["DATABASE_URL: must be a URL that starts with postgres:// or postgresql://"]);
  checkDatabaseUrl(url);
  return url;
}

/** drizzle-kit would show a stack. */
function exitWhereWrong<T>(work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    const { message, exitCode } = thrown as Partial<ConfigError>;
    if (exitCode === undefined) throw thrown;
    process.stderr.write(`${message}\n`);
    process.exit(exitCode);
  }
}
