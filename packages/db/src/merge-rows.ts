/** Rows of one batch, merged by task in memory, for one statement must not touch a row twice. */
import { compareBytes } from "@celery-metrics-exporter/events";
import { MERGE_GROUPS, type Criterion, type Group } from "./merge-rule.ts";
import type { MutableTaskRow, TaskColumn, TaskRow } from "./task-row.ts";

const OTHER = MERGE_GROUPS.filter(({ of }) => of === "any");
const DESCRIBED = MERGE_GROUPS.filter(({ of }) => of !== "started");
const STARTED = MERGE_GROUPS.filter(({ of }) => of !== "described");

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
  const groups = groupsOf(row);
  // All groups are compared before any moves: some look at columns that others move.
  let winning = 0;
  for (let index = 0; index < groups.length; index += 1) if (comesFirst(groups[index] as Group, row, target)) winning |= 1 << index;
  for (let index = 0; winning !== 0; index += 1, winning >>>= 1) {
    if ((winning & 1) === 0) continue;
    for (const column of (groups[index] as Group).moves) (target as Record<TaskColumn, unknown>)[column] = row[column];
  }
}

/** The groups in which a row can come first. Most rows of a batch are of one event, and say nothing about the others. */
function groupsOf(row: TaskRow): readonly Group[] {
  const isDescribed = row.name_at !== undefined;
  if (row.run_started_at === undefined) return isDescribed ? DESCRIBED : OTHER;
  return isDescribed ? MERGE_GROUPS : STARTED;
}

function comesFirst({ order }: Group, a: TaskRow, b: TaskRow): boolean {
  for (let index = 0; index < order.length; index += 1) {
    const criterion = order[index] as Criterion;
    const one = valueOf(criterion, a);
    const other = valueOf(criterion, b);
    if (one === other) continue;
    const difference = compare(one, other, criterion.wins);
    if (difference !== 0) return difference > 0;
  }
  return false;
}

function valueOf({ column, without, orElse }: Criterion, row: TaskRow): Value {
  if (without !== undefined && row[without] !== undefined) return undefined;
  const value = row[column] as Value;
  return value === undefined && orElse !== undefined ? firstOf(orElse, row) : value;
}

function firstOf(columns: readonly TaskColumn[], row: TaskRow): Value {
  for (let index = 0; index < columns.length; index += 1) {
    const value = row[columns[index] as TaskColumn] as Value;
    if (value !== undefined) return value;
  }
  return undefined;
}

/** Positive when `a` wins. */
function compare(a: Value, b: Value, wins: Criterion["wins"]): number {
  if (a === b) return 0;
  if (a === undefined) return -1;
  if (b === undefined) return 1;
  if (wins === "present") return 0;
  const order = typeof a === "number" && typeof b === "number" ? a - b : compareBytes(String(a), String(b));
  return wins === "greatest" ? order : -order;
}
