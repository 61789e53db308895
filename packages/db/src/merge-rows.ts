/** Rows of one batch, merged by task in memory, for one statement must not touch a row twice. */
import { compareBytes } from "@celery-metrics-exporter/events";
import { MERGE_GROUPS, type Criterion, type Group } from "./merge-rule.ts";
import type { MutableTaskRow, TaskColumn, TaskRow } from "./task-row.ts";

type Value = string | number | undefined;

/** One row per task: the first given of it, changed to what all of them make together. A copy would be dropped in a moment, and is large. */
export function mergeRows(rows: Iterable<MutableTaskRow>): MutableTaskRow[] {
  const merged = new Map<string, MutableTaskRow>();
  for (const row of rows) {
    const before = merged.get(row.task_id);
    if (before === undefined) merged.set(row.task_id, row);
    else mergeInto(before, row);
  }
  return [...merged.values()];
}

function mergeInto(target: MutableTaskRow, row: TaskRow): void {
  // All groups are compared before any moves: some look at columns that others move.
  let winning = 0;
  for (const [index, group] of MERGE_GROUPS.entries()) if (comesFirst(group, row, target)) winning |= 1 << index;
  for (const [index, { moves }] of MERGE_GROUPS.entries()) {
    if ((winning & (1 << index)) === 0) continue;
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
