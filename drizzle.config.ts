/** For drizzle-kit: `pnpm drizzle-kit generate` writes a migration into `drizzle/`, `pnpm drizzle-kit migrate` applies them to DATABASE_URL. */
import { defineConfig } from "drizzle-kit";
import { spawnSync } from "node:child_process";
import { toDatabaseCredentials } from "./packages/db/src/database-credentials.ts";
import { databaseUrlProblem, isEmbedded } from "./packages/db/src/database-url.ts";
import { ConfigError, readSetting } from "./packages/runtime/src/index.ts";

const needsDatabase = ["migrate", "push", "pull", "studio"].some((command) => process.argv.includes(command));

export default defineConfig({
  dialect: "postgresql",
  schema: "./packages/db/src/schema.ts",
  out: "./drizzle",
  dbCredentials: needsDatabase ? credentials() : { url: "" },
});

/** Of DATABASE_URL, or what is in the file that DATABASE_URL_FILE names, of a database that lets us in. */
function credentials() {
  try {
    const url = readSetting("DATABASE_URL", process.env);
    if (url === undefined) throw problem("is required. It must name the database, such as postgres://user:password@127.0.0.1:5432/celery.");
    if (isEmbedded(url)) throw problem("must be a URL that starts with postgres:// or postgresql://");
    const wrong = databaseUrlProblem(url);
    if (wrong !== undefined) throw problem(wrong);
    const { options, ...parts } = toDatabaseCredentials(url);
    tryToConnect(url);
    // drizzle-kit does not hand them on; the driver takes them from here.
    if (options !== undefined) process.env["PGOPTIONS"] = options;
    return parts;
  } catch (thrown) {
    // drizzle-kit would show a stack.
    const { message, exitCode = 1 } = thrown as Error & { exitCode?: number };
    process.stderr.write(`${message}\n`);
    process.exit(exitCode);
  }
}

function problem(text: string): ConfigError {
  return new ConfigError([`DATABASE_URL: ${text}`]);
}

/** drizzle-kit ends without a word when it cannot connect (0.31), and reads this file synchronously: so ask in a process of its own. */
function tryToConnect(url: string): void {
  const script = `
    import { connectDatabase } from "./packages/db/dist/index.js";
    try {
      const database = await connectDatabase({ url: process.env.DATABASE_URL, startupTimeoutMs: 0 });
      await database.close();
    } catch (error) {
      process.stdout.write(error.message);
      process.exitCode = error.exitCode ?? 1;
    }`;
  const { stdout, stderr, status } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], {
    encoding: "utf8",
    env: { ...process.env, DATABASE_URL: url },
  });
  if (status !== 0) throw Object.assign(new Error(stdout || stderr), { exitCode: status ?? 1 });
}
