/** `query`: reads the rows, also those of an embedded database that another process has open. */
import { connectDatabase, copyEmbeddedDatabase, isEmbedded } from "@celery-metrics-exporter/db";
import { loadConfig, toError } from "@celery-metrics-exporter/runtime";
import { sql } from "drizzle-orm";
import { postgres } from "postgres-processor";
import { z } from "zod";
import type { Command } from "../command.ts";
import { EMBEDDED_DATABASE_URL, withDatabase, withDefaultDatabase } from "../defaults/database.ts";
import { renderJson, renderTable } from "../report/table.ts";
import { groupSettings } from "../settings.ts";
import { UsageError } from "../usage-error.ts";

const Config = z.object({ DATABASE_URL: postgres.Config.shape.DATABASE_URL });

const LATEST = `select name, status, queue, started_at::timestamptz(0), round(duration::numeric, 3) as duration, exception, task_id
  from celery_task order by last_event_at desc limit 20`;

export const query: Command = {
  name: "query",
  summary: "Show rows of celery_task: the latest, or what an SQL statement selects.",
  description:
    "Runs one SQL statement, read-only, and shows the rows it selects; without a statement, the latest 20 tasks. " +
    `Without DATABASE_URL it reads the embedded PostgreSQL in ${EMBEDDED_DATABASE_URL.slice("pglite:".length)}, also while \`start\` is running: ` +
    "it copies the files, so that no statement can hold up or change anything. For a real PostgreSQL, psql does the same and more.",
  argument: "statement",
  options: [{ name: "json", description: "Write each row as a line of JSON." }],
  settings: withDefaultDatabase(groupSettings([{ name: "query", Config }]), EMBEDDED_DATABASE_URL),
  async run({ argument = LATEST, options, env, terminal }) {
    const { DATABASE_URL: url } = loadConfig(Config, withDatabase(env).env);
    const copy = isEmbedded(url) ? await copyEmbeddedDatabase(url) : undefined;
    try {
      const rows = await select(copy?.url ?? url, argument);
      terminal.write(options.has("json") ? renderJson(rows) : renderTable(rows, terminal.isInteractive ? terminal.columns : undefined));
    } finally {
      copy?.remove();
    }
  },
};

/** @throws {UsageError} with what the database says of a statement that fails. */
async function select(url: string, statement: string): Promise<readonly Record<string, unknown>[]> {
  const database = await connectDatabase({ url, poolSize: 1, statementTimeoutMs: 0, applicationName: "celery-metrics-exporter query" });
  try {
    const result: unknown = await database.drizzle.transaction((transaction) => transaction.execute(sql.raw(statement)), {
      accessMode: "read only",
    });
    return (result as { rows?: Record<string, unknown>[] }).rows ?? [];
  } catch (thrown) {
    const error = toError(thrown);
    throw new UsageError(`The statement failed: ${(error.cause === undefined ? error : toError(error.cause)).message}.`);
  } finally {
    await database.close();
  }
}
