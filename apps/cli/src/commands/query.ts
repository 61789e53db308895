/** `query`: shows rows, even from an embedded database that another process has open. */
import { StatementError, isEmbedded, readRows, type SelectedRows } from "@celery-metrics-exporter/db";
import { UnavailableError, loadConfig } from "@celery-metrics-exporter/runtime";
import { postgres } from "postgres-processor";
import { z } from "zod";
import { PROGRAM, UsageError, type Command } from "../command.ts";
import { EMBEDDED_DATABASE_URL, withDatabase } from "../defaults/database.ts";
import { withDecidedDefaults } from "../defaults/shown-defaults.ts";
import { withCopy } from "../query/with-copy.ts";
import { renderJson, renderTable } from "../report/table.ts";
import { groupSettings } from "../settings.ts";

const Config = z.object({ DATABASE_URL: postgres.Config.shape.DATABASE_URL });

/** The id comes first so that it fits any terminal: people copy it. */
const LATEST = `select task_id, name, status, queue, started_at::timestamptz(0), round(duration::numeric, 3) as duration, exception
  from celery_task order by last_event_at desc limit 20`;

/** SQLSTATE of a write in a read-only transaction. */
const READ_ONLY = "25006";
/** SQLSTATEs of a missing table, schema or column. */
const NOT_THERE = /^(42P01|3F000|42703)$/;

export const query: Command = {
  name: "query",
  summary: "Show rows of celery_task: the latest, or those that an SQL statement selects.",
  description:
    "Runs one SQL statement in a read-only transaction and shows the rows it selects. Without a statement it shows the latest 20 tasks. " +
    `Without DATABASE_URL it reads the embedded PostgreSQL in ${EMBEDDED_DATABASE_URL.slice("pglite:".length)}, even while \`start\` is running: ` +
    "it copies the files, so no statement can block or change anything. On a real PostgreSQL, only the rights of the database user limit " +
    "functions with side effects, such as pg_terminate_backend. psql does the same and more.",
  argument: "statement",
  options: [{ name: "json", description: "Write each row as a line of JSON." }],
  settings: withDecidedDefaults(groupSettings([{ name: "query", Config }])),
  async run({ argument, options, env, terminal }) {
    const { DATABASE_URL: url } = loadConfig(Config, withDatabase(env).env);
    const selected = isEmbedded(url) ? await withCopy(url, (copy) => select(copy, argument)) : await select(url, argument);
    const text = options.has("json")
      ? renderJson(selected.rows)
      : renderTable(selected, terminal.isInteractive ? terminal.columns : undefined);
    terminal.write(text);
  },
};

/**
 * @param statement undefined for the latest tasks.
 * @throws {UsageError} with the database's message if the statement fails.
 */
async function select(url: string, statement: string | undefined): Promise<SelectedRows> {
  try {
    return await readRows({ url, statement: statement ?? LATEST, applicationName: `${PROGRAM} query` });
  } catch (thrown) {
    if (!(thrown instanceof StatementError)) throw thrown;
    const { message, sqlState = "" } = thrown;
    if (sqlState === READ_ONLY) throw new UsageError(`query only reads: ${message}.`);
    if (NOT_THERE.test(sqlState) && (statement === undefined || /relation "celery_task" does not exist/.test(message))) {
      throw new UnavailableError(`The database is not migrated (${message}). Run \`${PROGRAM} migrate\` with the same DATABASE_URL.`);
    }
    throw new UsageError(`The statement failed: ${message}.`);
  }
}
