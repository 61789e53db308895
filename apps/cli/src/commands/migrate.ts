/** `migrate`: brings the table up to date. */
import { migrate as applyMigrations } from "@celery-metrics-exporter/db";
import { loadConfig, redactUrl } from "@celery-metrics-exporter/runtime";
import { postgres } from "postgres-processor";
import { z } from "zod";
import type { Command } from "../command.ts";
import { groupSettings } from "../settings.ts";

const Config = z.object({ DATABASE_URL: postgres.Config.shape.DATABASE_URL });

export const migrate: Command = {
  name: "migrate",
  summary: "Create the table celery_task, or bring it up to date.",
  description:
    "Applies the migrations that the database lacks, one process at a time, in the first schema of search_path; does nothing when there are none. " +
    "`pnpm drizzle-kit migrate` does the same.",
  options: [],
  settings: groupSettings([{ name: "migrate", Config }]),
  async run({ env, terminal }) {
    const { DATABASE_URL: url } = loadConfig(Config, env);
    const schema = await applyMigrations(url, { onWait: (message) => terminal.write(`${message}\n`) });
    const table = schema === "public" ? "celery_task" : `${schema}.celery_task`;
    terminal.write(`The table ${table} in ${redactUrl(url)} is up to date.\n`);
  },
};
