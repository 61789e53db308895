/** For drizzle-kit: `pnpm drizzle-kit generate` writes a migration into `drizzle/`, `pnpm drizzle-kit migrate` applies them to DATABASE_URL. */
import { defineConfig } from "drizzle-kit";
import { spawnSync } from "node:child_process";
import { BaseConfig, loadConfig, url as urlOf } from "./packages/runtime/src/config.ts";
import { toError } from "./packages/runtime/src/errors.ts";

const needsDatabase = ["migrate", "push", "pull", "studio"].some((command) => process.argv.includes(command));
const url = needsDatabase ? databaseUrl() : "";

export default defineConfig({
  dialect: "postgresql",
  schema: "./packages/db/src/schema.ts",
  out: "./drizzle",
  dbCredentials: { url },
});

/** DATABASE_URL, or what is in the file that DATABASE_URL_FILE names, of a database that lets us in. */
function databaseUrl(): string {
  const Config = BaseConfig.pick({}).extend({
    DATABASE_URL: urlOf(["postgres", "postgresql"]).describe(
      "It must name the database, such as postgres://user:password@127.0.0.1:5432/celery.",
    ),
  });
  try {
    const { DATABASE_URL } = loadConfig(Config, process.env);
    tryToConnect(DATABASE_URL);
    return DATABASE_URL;
  } catch (thrown) {
    // drizzle-kit would show a stack.
    process.stderr.write(`${toError(thrown).message}\n`);
    process.exit((thrown as { exitCode?: number }).exitCode ?? 1);
  }
}

/** drizzle-kit ends without a word when it cannot connect (0.31), and reads this file synchronously: so ask in a process of its own. */
function tryToConnect(connectionString: string): void {
  const script = `
    import pg from "pg";
    const client = new pg.Client({ connectionString: process.env.CONNECTION_STRING, connectionTimeoutMillis: 10_000 });
    try { await client.connect(); } catch (error) { process.stdout.write(error.message || error.code); } finally { await client.end(); }`;
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], {
    encoding: "utf8",
    env: { ...process.env, CONNECTION_STRING: connectionString },
  });
  if (stdout !== "") throw new Error(`Cannot connect to the database of DATABASE_URL: ${stdout}`);
}
