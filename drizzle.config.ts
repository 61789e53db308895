/** For drizzle-kit: `pnpm drizzle-kit generate` writes a migration into `drizzle/`, `pnpm drizzle-kit migrate` applies them to DATABASE_URL. */
import { defineConfig } from "drizzle-kit";
import { spawnSync } from "node:child_process";

const url = process.env["DATABASE_URL"] ?? "";

if (["migrate", "push", "pull", "studio"].some((command) => process.argv.includes(command))) {
  if (!/^postgres(ql)?:\/\//.test(url)) {
    throw new Error("DATABASE_URL must name the database, such as postgres://user:password@127.0.0.1:5432/celery.");
  }
  tryToConnect();
}

export default defineConfig({
  dialect: "postgresql",
  schema: "./packages/db/src/schema.ts",
  out: "./drizzle",
  dbCredentials: { url },
});

/** drizzle-kit ends without a word when it cannot connect (0.31), and reads this file synchronously: so ask in a process of its own. */
function tryToConnect(): void {
  const script = `
    import pg from "pg";
    const client = new pg.Client({ connectionString: process.env.DATABASE_URL, connectionTimeoutMillis: 10_000 });
    try { await client.connect(); } catch (error) { process.stdout.write(error.message || error.code); } finally { await client.end(); }`;
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], { encoding: "utf8" });
  if (stdout !== "") throw new Error(`Cannot connect to the database of DATABASE_URL: ${stdout}`);
}
