/** Stores events: merged by task in memory, then into the table by one statement. */
import { parsePythonLiteral, type CeleryEvent, type JsonValue } from "@celery-metrics-exporter/events";
import { sql, type SQL } from "drizzle-orm";
import { query, type Database, type Drizzle } from "./database.ts";
import { mergeRows } from "./merge-rows.ts";
import { toTaskRow, type MutableTaskRow } from "./task-row.ts";
import { UPSERT_STATEMENT, abbreviate } from "./upsert-statement.ts";

/**
 * Merges what the events tell into the table, in one statement. The same events again, in any order and company, end in the same rows.
 *
 * @returns how many tasks the events were of.
 * @throws {UnavailableError} when the database does not serve, is not migrated or does not let us in.
 * @throws {RefusedDataError} when it refuses a row; none of the batch is then stored.
 */
export async function upsertTasks(database: Database, events: readonly CeleryEvent[]): Promise<number> {
  const rows = toTaskRows(events);
  if (rows.length > 0) await upsertRows(database, rows);
  return rows.length;
}

/** The rows that these events alone make, one per task. */
export function toTaskRows(events: readonly CeleryEvent[]): MutableTaskRow[] {
  const rows = mergeRows(rowsOf(events));
  for (const row of rows) {
    row.args_json = toJson(row.args);
    row.kwargs_json = toJson(row.kwargs);
  }
  return rows;
}

/** The statement itself; rows have distinct ids, and are good for nothing afterwards. */
export async function upsertRows(database: Drizzle, rows: readonly MutableTaskRow[]): Promise<void> {
  await query(database, upsertStatement(rows));
}

export function upsertStatement(rows: readonly MutableTaskRow[]): SQL {
  const { beforeRows, afterRows } = UPSERT_STATEMENT;
  return sql`${sql.raw(beforeRows)}${JSON.stringify(rows.map(abbreviate))}${sql.raw(afterRows)}`;
}

/** One after the other, so that those that are merged into another are gone at once. */
function* rowsOf(events: readonly CeleryEvent[]): Generator<MutableTaskRow> {
  for (const event of events) {
    const row = toTaskRow(event);
    if (row !== undefined) yield row;
  }
}

function toJson(repr: string | undefined): JsonValue | undefined {
  const parsed = repr === undefined ? undefined : parsePythonLiteral(repr);
  return parsed?.ok === true ? parsed.value : undefined;
}
