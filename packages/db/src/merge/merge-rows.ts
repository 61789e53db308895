/**
 * The rules for merging two rows of a task, as data. The merge in memory (below) and the upsert (`upsert.ts`) are both derived from them, so that they
 * cannot diverge.
 *
 * The columns of a group move together. The row that comes first in the group's total order provides them. That makes the merge idempotent, commutative
 * and associative: any order, split or repetition of a task's events leads to the same row. docs/adr/0003-row-merge.md explains the choice of groups.
 */
import type { MutableTaskRow, TaskColumn, TaskRow } from "./task-row.ts";
import { compareBytes } from "@celery-metrics-exporter/celery";

/** One criterion of a group's order. A NULL never wins against a value. */
export interface Criterion {
  readonly column: TaskColumn;
  /** `present`: any value beats NULL and equals any other value. */
  readonly wins: "greatest" | "least" | "present";
  /** Ignored in a row in which this column is not NULL. */
  readonly without?: TaskColumn;
  /** Replacements for a NULL: the first that is not NULL. */
  readonly orElse?: readonly TaskColumn[];
}

export interface Group {
  /** The first criterion that differs decides. Text is compared by UTF-8 bytes. */
  readonly order: readonly Criterion[];
  readonly moves: readonly TaskColumn[];
  /** Rows that can come first: all, those with a `task-sent` or `task-received`, or those with a `task-started`. */
  readonly of: RowKind;
}

type RowKind = "any" | "described" | "started";

function greatest(...columns: TaskColumn[]): Criterion[] {
  return columns.map((column) => ({ column, wins: "greatest" }));
}

/** A group of one column. */
function single(wins: "greatest" | "least", column: TaskColumn, of: RowKind): Group {
  return { order: [{ column, wins }], moves: [column], of };
}

const STATE_KEY = ["state_rank", "state_hostname", "state_at"] as const;
const STATE_VALUES = ["runtime", "result", "exception", "traceback", "revoked_by"] as const;
const WORKER = ["worker_at", "worker_rank", "worker"] as const;
const DESCRIPTION = ["first_name", "first_queue", "args", "kwargs", "eta", "expires"] as const;
const NAME = ["name", "queue"] as const;
const RUN = ["run_started_at", "run_hostname"] as const;
const FIRST_RUN = ["started_at", "started_hostname"] as const;

export const MERGE_GROUPS: readonly Group[] = [
  // The state, in the order of packages/celery/src/model/task-state.ts.
  {
    order: [
      ...greatest("state_precedence"),
      { column: "state_order_at", wins: "greatest", orElse: ["state_at"] },
      ...greatest(...STATE_KEY, ...STATE_VALUES),
    ],
    moves: ["state_precedence", "state_order_at", ...STATE_KEY, "status", ...STATE_VALUES],
    of: "any",
  },
  // The worker of the latest worker event.
  { order: greatest(...WORKER), moves: WORKER, of: "any" },
  // The earliest task-sent as a whole; without any, the earliest task-received.
  {
    order: [
      { column: "sent_at", wins: "least" },
      { column: "received_at", wins: "least", without: "sent_at" },
      ...greatest(...DESCRIPTION),
    ],
    moves: [...DESCRIPTION, "args_json", "kwargs_json"],
    of: "described",
  },
  // From the latest task-sent; without any, from the latest task-received. Rows older than `name_at` have the earliest.
  {
    order: [
      { column: "sent_at", wins: "present" },
      { column: "name_at", wins: "greatest", orElse: ["sent_at", "received_at"] },
      ...greatest(...NAME),
    ],
    moves: ["name_at", ...NAME],
    of: "described",
  },
  // The latest start, and the first. Of starts at the same time, the one is the greatest and the other the least, so that they differ.
  { order: greatest(...RUN), moves: RUN, of: "started" },
  { order: FIRST_RUN.map((column) => ({ column, wins: "least" })), moves: FIRST_RUN, of: "started" },
  // All events that have these agree. A task-sent of Celery's message protocol 1 has neither `root_id` nor `parent_id`.
  single("greatest", "root_id", "described"),
  single("greatest", "parent_id", "described"),
  single("greatest", "retries", "described"),
  single("least", "sent_at", "described"),
  single("least", "received_at", "described"),
  single("greatest", "last_event_at", "any"),
];

// Merge in memory: rows of a batch are merged by task, because one statement must not touch a row twice.

const OTHER = MERGE_GROUPS.filter(({ of }) => of === "any");
const DESCRIBED = MERGE_GROUPS.filter(({ of }) => of !== "started");
const STARTED = MERGE_GROUPS.filter(({ of }) => of !== "described");

type Value = string | number | undefined;

/** Merges rows by task. Changes and returns the first row of each task, because a copy would be large and short-lived. */
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
  // Compares all groups before moving any: some compare columns that others move.
  let winning = 0;
  for (let index = 0; index < groups.length; index += 1) if (comesFirst(groups[index] as Group, row, target)) winning |= 1 << index;
  for (let index = 0; winning !== 0; index += 1, winning >>>= 1) {
    if ((winning & 1) === 0) continue;
    for (const column of (groups[index] as Group).moves) (target as Record<TaskColumn, unknown>)[column] = row[column];
  }
}

/** The groups in which a row can come first. Most rows of a batch come from one event and cannot win in the other groups. */
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
  for (const column of columns) {
    const value = row[column] as Value;
    if (value !== undefined) return value;
  }
  return undefined;
}

/** Positive if `a` wins, of two different values. */
function compare(a: Value, b: Value, wins: Criterion["wins"]): number {
  if (a === undefined) return -1;
  if (b === undefined) return 1;
  if (wins === "present") return 0;
  const order = typeof a === "number" ? a - Number(b) : compareBytes(a, String(b));
  return wins === "greatest" ? order : -order;
}
