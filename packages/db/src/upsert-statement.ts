/** The one statement that merges a batch into the table, made from the schema and the merge rule. */
import { getTableColumns, getTableName } from "drizzle-orm";
import { MERGE_GROUPS, type Criterion, type Group } from "./merge-rule.ts";
import { celeryTask } from "./schema.ts";
import type { TaskColumn } from "./task-row.ts";

const TABLE = getTableName(celeryTask);
const INSTANT = "timestamp with time zone";

const sqlTypes: ReadonlyMap<string, string> = new Map(
  Object.values(getTableColumns(celeryTask)).map((column) => [column.name, column.getSQLType()]),
);

/** The columns we write: all that move, and the key. */
const columns: readonly TaskColumn[] = ["task_id", ...new Set(MERGE_GROUPS.flatMap(({ moves }) => moves))];

/** Columns that are compared by themselves, and groups that move together. */
const singles: readonly Criterion[] = MERGE_GROUPS.flatMap(({ order }) => (order.length === 1 ? order : []));
const groups: readonly Group[] = MERGE_GROUPS.filter(({ order }) => order.length > 1);
const groupColumns: readonly TaskColumn[] = groups.flatMap(({ moves }) => moves);

/**
 * The rows between the two parts are one parameter: a JSON array of rows with distinct ids, whose keys are columns and whose instants are
 * microseconds since the epoch.
 *
 * Sorted by id, so that statements that overlap lock their rows in the same order. A row that would not change is not written. `OFFSET 0`
 * keeps the planner from copying each group's comparison into each of its columns.
 */
export const UPSERT_STATEMENT = {
  beforeRows: `
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
updated_at = now()
WHERE ${MERGE_GROUPS.map(comesFirst).join("\nOR ")}`,
};

function jsonType(column: TaskColumn): string {
  return sqlTypes.get(column) === INSTANT ? "bigint" : (sqlTypes.get(column) ?? "text");
}

function fromJson(column: TaskColumn): string {
  return sqlTypes.get(column) === INSTANT ? `timestamptz 'epoch' + ${column} * interval '1 microsecond'` : column;
}

/** What `least` and `greatest` do by themselves: they ignore NULL. */
function assignment({ column, wins }: Criterion): string {
  return `${column} = ${wins}(${operand("task", column)}, ${operand("excluded", column)})`;
}

/** Whether the incoming row comes first in this group: one row comparison, with the sides exchanged where the least wins. */
function comesFirst({ order }: Group): string {
  const sides = (side: "task" | "excluded"): string =>
    order
      .map((criterion) => comparable((criterion.wins === "greatest") === (side === "excluded") ? "excluded" : "task", criterion))
      .join(", ");
  return `(${sides("excluded")}) > (${sides("task")})`;
}

/** The value of a criterion, with what never wins in the place of NULL. */
function comparable(row: string, { column, wins, without }: Criterion): string {
  const value = operand(row, column);
  const present = without === undefined ? value : `CASE WHEN ${row}.${without} IS NULL THEN ${value} END`;
  return isRequired(column) ? present : `coalesce(${present}, ${loser(column, wins)})`;
}

function operand(row: string, column: TaskColumn): string {
  return sqlTypes.get(column) === "text" ? `${row}.${column} COLLATE "C"` : `${row}.${column}`;
}

/** Values that no row has: texts are never empty here, ranks and retries never negative. */
function loser(column: TaskColumn, wins: Criterion["wins"]): string {
  switch (sqlTypes.get(column)) {
    case "text":
      return "''";
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
