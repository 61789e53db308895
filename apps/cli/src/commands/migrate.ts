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
    "Applies the migrations that the database lacks, one process at a time; does nothing when there are none. " +
    "The same files as `pnpm drizzle-kit migrate` applies.",
  options: [],
  settings: groupSettings([{ name: "migrate", Config }]),
  async run({ env, terminal }) {
    const { DATABASE_URL: url } = loadConfig(Config, env);
    await applyMigrations(url);
    terminal.write(`The table celery_task in ${redactUrl(url)} is up to date.\n`);
  },
};
