/** Rows of one batch, merged by task in memory, for one statement must not touch a row twice. */
import { compareBytes } from "@celery-metrics-exporter/events";
import { MERGE_GROUPS, type Criterion, type Group } from "./merge-rule.ts";
import type { TaskColumn, TaskRow } from "./task-row.ts";

type MutableRow = { -readonly [column in TaskColumn]: TaskRow[column] };
type Value = string | number | undefined;

/** One row per task. The rows given are not changed. */
export function mergeRows(rows: Iterable<TaskRow>): TaskRow[] {
  const merged = new Map<string, MutableRow>();
  for (const row of rows) {
    const before = merged.get(row.task_id);
    if (before === undefined) merged.set(row.task_id, { ...row });
    else mergeInto(before, row);
  }
  return [...merged.values()];
}

function mergeInto(target: MutableRow, row: TaskRow): void {
  // All groups are compared before any moves: some look at columns that others move.
  const winning = MERGE_GROUPS.filter((group) => comesFirst(group, row, target));
  for (const { moves } of winning) {
    for (const column of moves) (target as Record<TaskColumn, unknown>)[column] = row[column];
  }
}

function comesFirst({ order }: Group, a: TaskRow, b: TaskRow): boolean {
  for (const criterion of order) {
    const difference = compare(valueOf(criterion, a), valueOf(criterion, b), criterion.wins);
    if (difference !== 0) return difference > 0;
  }
  return false;
}

function valueOf({ column, without }: Criterion, row: TaskRow): Value {
  return without !== undefined && row[without] !== undefined ? undefined : (row[column] as Value);
}

/** Positive when `a` wins. */
function compare(a: Value, b: Value, wins: Criterion["wins"]): number {
  if (a === b) return 0;
  if (a === undefined) return -1;
  if (b === undefined) return 1;
  const order = typeof a === "number" && typeof b === "number" ? a - b : compareBytes(String(a), String(b));
  return wins === "greatest" ? order : -order;
}
