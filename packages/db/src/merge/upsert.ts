/** Stores events: merges them by task in memory, then into the tables with one statement. */
import { type CeleryEvent, type JsonValue, parsePythonLiteral } from "@celery-metrics-exporter/celery";
import { type SQL, getTableColumns, getTableName, sql } from "drizzle-orm";
import { type HistoryMode, type TaskEventRow, toTaskEventRows } from "../history/task-events.ts";
import { type Database, queryKept } from "../tables/database.ts";
import { type Criterion, type Group, MERGE_GROUPS, mergeRows } from "./merge-rows.ts";
import { type MutableTaskRow, type TaskColumn, type TaskRow, toTaskRow } from "./task-row.ts";
import { celeryTask, celeryTaskEvent, celeryTaskMinuteDirty } from "../tables/schema.ts";

/**
 * Merges the events into the table with one statement, which also stores what rows cannot show. Storing the same events again, in any order and with any
 * others, leads to the same rows and attempts.
 *
 * @returns the number of tasks in the events.
 * @throws {UnavailableError} if the database is unavailable, is not migrated or refuses access.
 * @throws {RefusedDataError} if it rejects a row. Then none of the batch is stored.
 */
export async function upsertTasks(database: Database, events: readonly CeleryEvent[], history: HistoryMode = "unusual"): Promise<number> {
  const rows = toTaskRows(events);
  if (rows.length > 0) await upsertRows(database, rows, history, toTaskEventRows(events, history));
  return rows.length;
}

/** The rows from these events alone, one per task. */
export function toTaskRows(events: readonly CeleryEvent[]): MutableTaskRow[] {
  const rows = mergeRows(rowsOf(events));
  for (const row of rows) {
    row.args_json = toJson(row.args);
    row.kwargs_json = toJson(row.kwargs);
  }
  return rows;
}

/**
 * Runs the statement. Rows must have distinct ids, and are unusable afterwards. Events must be of tasks among the rows: their locks also order the
 * writers of an event.
 */
export async function upsertRows(
  database: Database,
  rows: readonly MutableTaskRow[],
  history: HistoryMode = "unusual",
  events: readonly TaskEventRow[] = [],
): Promise<void> {
  await queryKept(database, upsertStatement(rows, history, events));
}

export function upsertStatement(rows: readonly MutableTaskRow[], history: HistoryMode, events: readonly TaskEventRow[] = []): SQL {
  const { beforeRows, afterRows, beforeEvents, afterEvents, result } = UPSERT_STATEMENT;
  const upsert = sql`${sql.raw(beforeRows)}${JSON.stringify(rows.map(abbreviate))}${sql.raw(afterRows)}`;
  const keep = history === "off" ? sql`` : sql`${sql.raw(beforeEvents)}${JSON.stringify(events)}${sql.raw(afterEvents)}`;
  return sql`${upsert}${keep}${sql.raw(result)}`;
}

/** Generates rows one by one, so that merged rows can be freed at once. */
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

// The statement that merges a batch into the table, generated from the schema and the merge rules.

const TABLE = getTableName(celeryTask);
const INSTANT = "timestamp with time zone";

/**
 * Instants that can be outside of the range that `to_timestamp` converts exactly: the task's sender chooses an ETA and an expiry, and a revocation that
 * ended no run counts as 100 years earlier.
 */
const FAR: ReadonlySet<TaskColumn> = new Set(["eta", "expires", "state_order_at"]);

const sqlTypes: ReadonlyMap<string, string> = new Map(
  Object.values(getTableColumns(celeryTask)).map((column) => [column.name, column.getSQLType()]),
);

/** The columns we write: the key and all columns of groups. */
const columns: readonly TaskColumn[] = ["task_id", ...new Set(MERGE_GROUPS.flatMap(({ moves }) => moves))];

/** Groups of a single column, and larger groups. */
const singles: readonly Criterion[] = MERGE_GROUPS.flatMap(({ order }) => (order.length === 1 ? order : []));
const groups: readonly Group[] = MERGE_GROUPS.filter(({ order }) => order.length > 1);
const groupColumns: readonly TaskColumn[] = groups.flatMap(({ moves }) => moves);

/**
 * Columns that nearly always equal others of their row. If they do, the parameter omits them, which saves a quarter of its bytes. If they have no value
 * but the others do, the parameter contains an empty text.
 */
const ABBREVIATED: Readonly<Partial<Record<TaskColumn, string>>> = {
  first_name: "nullif(coalesce(first_name, name), '')",
  first_queue: "nullif(coalesce(first_queue, queue), '')",
  root_id: "nullif(coalesce(root_id, task_id), '')",
  name_at: "coalesce(name_at, sent_at, received_at)",
  run_started_at: "coalesce(run_started_at, started_at)",
  run_hostname: "CASE WHEN started_at IS NOT NULL THEN coalesce(run_hostname, state_hostname) END",
  started_hostname: "CASE WHEN started_at IS NOT NULL THEN coalesce(started_hostname, run_hostname, state_hostname) END",
  worker: "CASE WHEN worker_at IS NOT NULL THEN coalesce(worker, state_hostname) END",
  last_event_at: "coalesce(last_event_at, state_at)",
};

/** A row in the parameter, without values that the statement can restore. */
type AbbreviatedRow = { -readonly [column in keyof TaskRow]: TaskRow[column] | undefined };

/** Changes the row itself, because a copy would be large. The row is unusable afterwards. */
function abbreviate(row: MutableTaskRow): AbbreviatedRow {
  const short: AbbreviatedRow = row;
  if (row.started_hostname === row.run_hostname) short.started_hostname = undefined;
  if (row.run_hostname === row.state_hostname) short.run_hostname = undefined;
  if (row.run_started_at === row.started_at) short.run_started_at = undefined;
  if (row.name_at === (row.sent_at ?? row.received_at)) short.name_at = undefined;
  if (row.worker === row.state_hostname) short.worker = undefined;
  if (row.last_event_at === row.state_at) short.last_event_at = undefined;
  short.first_name = abbreviated(row.first_name, row.name);
  short.first_queue = abbreviated(row.first_queue, row.queue);
  short.root_id = abbreviated(row.root_id, row.task_id);
  return short;
}

function abbreviated(text: string | undefined, other: string | undefined): string | undefined {
  return text === other ? undefined : (text ?? "");
}

const START = ["started_at", "started_hostname"] as const;
const RUN = ["run_started_at", "run_hostname"] as const;
/** Identifies an end, together with its task. */
const END = ["status", "state_at", "state_hostname"] as const;

function tuple(row: string, names: readonly TaskColumn[]): string {
  return `(${names.map((column) => operand(row, column)).join(", ")})`;
}

/** Not all starts that meet here are the same. */
const TWO_STARTS = `excluded.started_at IS NOT NULL AND (${tuple("task", START)} <> ${tuple("excluded", START)} OR ${tuple("task", RUN)} <> ${tuple("excluded", RUN)})`;
/** An incoming start that would be neither the first nor the latest. */
const START_IS_BETWEEN = `${tuple("task", START)} < ${tuple("excluded", START)} AND ${tuple("excluded", START)} < ${tuple("task", RUN)}`;
const TWO_ENDS = `task.state_precedence >= 2 AND excluded.state_precedence >= 2 AND ${tuple("task", END)} <> ${tuple("excluded", END)}`;

/** The end of this row as an event. */
function endOf(row: string): string {
  const values = (["runtime", "exception", "traceback", "revoked_by"] as const).map((column) => `'${column}', ${row}.${column}`);
  return `jsonb_build_object(
    'type', CASE ${row}.status WHEN 'SUCCESS' THEN 'task-succeeded' WHEN 'FAILURE' THEN 'task-failed' WHEN 'REVOKED' THEN 'task-revoked' ELSE 'task-rejected' END,
    'at', ${row}.state_at, 'hostname', ${row}.state_hostname, ${values.join(", ")},
    'exited', CASE WHEN ${row}.status = 'FAILURE' AND ${row}.state_order_at IS NOT NULL THEN true END
  )`;
}

/** The starts that meet in this update, and the lesser of two ends, as a list of events. NULL if there is only one start and one end. */
function leftOut(): string {
  const state = MERGE_GROUPS.find(({ moves }) => moves.includes("status")) as Group;
  const start = (row: string, [at, hostname]: typeof START | typeof RUN): string =>
    `jsonb_build_object('type', 'task-started', 'at', ${row}.${at}, 'hostname', ${row}.${hostname})`;
  const starts = [start("task", START), start("task", RUN), start("excluded", START), start("excluded", RUN)];
  return `CASE WHEN (${TWO_STARTS}) OR (${TWO_ENDS}) THEN
    CASE WHEN ${TWO_STARTS} THEN jsonb_build_array(${starts.join(", ")}) ELSE '[]' END
    || CASE WHEN ${TWO_ENDS} THEN CASE WHEN ${comesFirst(state)} THEN ${endOf("task")} ELSE ${endOf("excluded")} END ELSE '[]' END
  END`;
}

/** Minutes since the epoch. Several times as fast as `date_trunc`. */
function minuteOf(column: string): string {
  return `floor(date_part('epoch', ${column}) / 60)::int`;
}

const EVENT_TABLE = getTableName(celeryTaskEvent);
const eventColumns = Object.values(getTableColumns(celeryTaskEvent));
const EVENT_KEY = ["task_id", "at", "type", "hostname"];
const eventNames = eventColumns.map(({ name }) => name);
const eventValues = eventColumns.filter(({ name }) => !EVENT_KEY.includes(name));
const eventTypes = eventColumns.map((column) => `${column.name} ${column.getSQLType()}`);

/** The values of an event as a comparable tuple. Of two different events with the same key, the greater one is stored. */
function eventValuesOf(prefix: string): string {
  const present = eventValues.map((column) => {
    const type = column.getSQLType();
    if (type === "text") return `coalesce(${prefix}${column.name} COLLATE "C", '')`;
    return `coalesce(${prefix}${column.name}, ${type === "boolean" ? "false" : "-1"})`;
  });
  return `(${present.join(", ")})`;
}

/**
 * The parameters are two JSON arrays: rows with distinct ids, and events. Keys are columns, and instants are microseconds since the epoch.
 *
 * Rows are sorted by id, so that overlapping statements lock them in the same order. Unchanged rows are not written. `OFFSET 0` prevents the planner from
 * copying a group's comparison into each of its columns. A row is also written if it would lose a start or an end, which `left_out` then contains:
 * `RETURNING` sees neither the row before the update nor the incoming one.
 *
 * Sorting the events makes PostgreSQL lock all rows before it inserts the first event.
 *
 * The minutes of `seen_at` of the written rows, before and after, are noted for the roll-up (`rollups/roll-up.ts`).
 */
const UPSERT_STATEMENT = {
  beforeRows: `
WITH written AS (
INSERT INTO ${TABLE} AS task (${columns.join(", ")})
SELECT ${columns.map(fromJson).join(", ")}
FROM json_to_recordset(`,
  afterRows: `::json) AS incoming (${columns.map((column) => `${column} ${jsonType(column)}`).join(", ")})
ORDER BY task_id COLLATE "C"
ON CONFLICT (task_id) DO UPDATE SET
(${groupColumns.join(", ")}) = (
  SELECT ${groups.flatMap(({ moves }, index) => moves.map((column) => `CASE WHEN wins${index} THEN excluded.${column} ELSE task.${column} END`)).join(", ")}
  FROM (SELECT ${groups.map((group, index) => `${comesFirst(group)} AS wins${index}`).join(", ")} OFFSET 0) AS comparison
),
${singles.map(assignment).join(",\n")},
seen_before = task.seen_at,
left_out = ${leftOut()},
updated_at = now()
WHERE ${MERGE_GROUPS.map(comesFirst).join("\nOR ")}
OR (${START_IS_BETWEEN})
OR (${TWO_ENDS})
RETURNING CASE WHEN left_out IS NOT NULL THEN task_id END AS task_id, left_out, ${minuteOf("seen_at")} AS minute, CASE WHEN seen_before <> seen_at THEN ${minuteOf("seen_before")} END AS minute_before
)`,
  beforeEvents: `, kept AS (
INSERT INTO ${EVENT_TABLE} AS event (${eventNames.join(", ")})
SELECT DISTINCT ON (${EVENT_KEY.join(", ")}) ${eventNames.join(", ")}
FROM (
  SELECT task_id, lost.*
  FROM written, LATERAL jsonb_to_recordset(left_out) AS lost (${eventTypes.slice(1).join(", ")})
  WHERE left_out IS NOT NULL
  UNION ALL
  SELECT ${eventNames.map((name) => (name === "at" ? "to_timestamp(at / 1e6::float8)" : name)).join(", ")}
  FROM json_to_recordset(`,
  afterEvents: `::json) AS incoming (${eventTypes.map((column) => column.replace(/^at .*/, "at bigint")).join(", ")})
) AS found (${eventNames.join(", ")})
ORDER BY ${EVENT_KEY.join(", ")}, ${eventValuesOf("found.")} DESC
ON CONFLICT (${EVENT_KEY.join(", ")}) DO UPDATE SET ${eventValues.map(({ name }) => `${name} = excluded.${name}`).join(", ")}
WHERE ${eventValuesOf("excluded.")} > ${eventValuesOf("event.")}
)`,
  result: `, noted AS (
INSERT INTO ${getTableName(celeryTaskMinuteDirty)} (minute)
SELECT to_timestamp(minute * 60::float8) FROM (SELECT minute FROM written UNION SELECT minute_before FROM written) AS touched WHERE minute IS NOT NULL
)
SELECT`,
};

function jsonType(column: TaskColumn): string {
  return sqlTypes.get(column) === INSTANT ? "bigint" : (sqlTypes.get(column) ?? "text");
}

/** `to_timestamp` takes a third of the time of the alternative, and is exact to the microsecond from 1970 to `MAX_TIMESTAMP`. */
function fromJson(column: TaskColumn): string {
  const value = ABBREVIATED[column] ?? column;
  if (sqlTypes.get(column) !== INSTANT) return value;
  return FAR.has(column) ? `timestamptz 'epoch' + ${value} * interval '1 microsecond'` : `to_timestamp(${value} / 1e6::float8)`;
}

/** `least` and `greatest` ignore NULL, as required. */
function assignment({ column, wins }: Criterion): string {
  return `${column} = ${wins}(${operand("task", column)}, ${operand("excluded", column)})`;
}

/** Whether the incoming row comes first in this group: one row comparison, with swapped sides if the least value wins. */
function comesFirst({ order }: Group): string {
  const sides = (side: "task" | "excluded"): string =>
    order
      .map((criterion) => comparable((criterion.wins === "least") === (side === "excluded") ? "task" : "excluded", criterion))
      .join(", ");
  return `(${sides("excluded")}) > (${sides("task")})`;
}

/** The value of a criterion, with a value that never wins in place of NULL. */
function comparable(row: string, { column, wins, without, orElse = [] }: Criterion): string {
  if (wins === "present") return `${row}.${column} IS NOT NULL`;
  const value = operand(row, column);
  const present = without === undefined ? value : `CASE WHEN ${row}.${without} IS NULL THEN ${value} END`;
  if (isRequired(column)) return present;
  const others = orElse.map((other) => operand(row, other));
  if (!orElse.some(isRequired)) others.push(loser(column, wins));
  return `coalesce(${[present, ...others].join(", ")})`;
}

function operand(row: string, column: TaskColumn): string {
  return sqlTypes.get(column) === "text" ? `${row}.${column} COLLATE "C"` : `${row}.${column}`;
}

/** A value that never wins and that no row has: text is never empty here, and ranks and retries are never negative. */
function loser(column: TaskColumn, wins: Criterion["wins"]): string {
  switch (sqlTypes.get(column)) {
    case "text":
      // The greatest character.
      return wins === "greatest" ? "''" : "chr(1114111)";
    case "smallint":
    case "integer":
      return "-1";
    default:
      return wins === "greatest" ? "'-infinity'" : "'infinity'";
  }
}

function isRequired(column: TaskColumn): boolean {
  return Object.values(getTableColumns(celeryTask)).some(({ name, notNull }) => name === column && notNull);
}
