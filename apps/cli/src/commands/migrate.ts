/** `migrate`: creates the table or applies missing migrations. */
import { isEmbedded, migrate as applyMigrations, readRows } from "@celery-metrics-exporter/db";
import { loadConfig, redactUrl } from "@celery-metrics-exporter/runtime";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { postgres } from "postgres-processor";
import { z } from "zod";
import type { Command } from "../command.ts";
import { groupSettings } from "../settings.ts";

const Config = z.object({ DATABASE_URL: postgres.Config.shape.DATABASE_URL });

export const migrate: Command = {
  name: "migrate",
  summary: "Create the table celery_task, or apply missing migrations.",
  description:
    "Applies the missing migrations in the first schema of search_path, one process at a time. Does nothing if none are missing. " +
    "`pnpm drizzle-kit migrate` does the same.",
  options: [],
  settings: groupSettings([{ name: "migrate", Config }]),
  async run({ env, terminal }) {
    const { DATABASE_URL: url } = loadConfig(Config, env);
    const existed = await tableExists(url);
    const schema = await applyMigrations(url, { onWait: (message) => terminal.write(`${message}\n`) });
    const table = schema === "public" ? "celery_task" : `${schema}.celery_task`;
    terminal.write(`The table ${table} in ${redactUrl(url)} ${existed ? "is up to date" : "has been created"}.\n`);
  },
};

/** Also true if the check fails: the migration then reports the reason. */
async function tableExists(url: string): Promise<boolean> {
  const folder = url.slice("pglite:".length);
  if (isEmbedded(url)) return existsSync(join(folder, "PG_VERSION"));
  try {
    const { rows } = await readRows({ url, statement: "select to_regclass('celery_task') is not null as exists" });
    return rows[0]?.["exists"] !== false;
  } catch {
    return true;
  }
}
