/**
 * The merge of two rows of one task, as data: the merge in memory (below) and the upsert (`upsert.ts`) are both made
 * from it, so that they cannot drift apart.
 *
 * Each group's columns move together, to the row that comes first by the group's total order. That makes the merge idempotent,
 * commutative and associative: any order, split or repetition of a task's events ends in the same row. docs/adr/0003-row-merge.md says why
 * the groups are these.
 */
import type { MutableTaskRow, TaskColumn, TaskRow } from "./task-row.ts";
import { compareBytes } from "@celery-metrics-exporter/celery";

/** One criterion of a group's order. A NULL never wins against a value. */
export interface Criterion {
  readonly column: TaskColumn;
  /** `present`: any value wins against NULL, and equals any other. */
  readonly wins: "greatest" | "least" | "present";
  /** Looked at only where this column is NULL, in each row by itself. */
  readonly without?: TaskColumn;
  /** The first of these that is not NULL stands in for a NULL. */
  readonly orElse?: readonly TaskColumn[];
}

export interface Group {
  /** The first criterion that differs decides. Texts compare by UTF-8 bytes. */
  readonly order: readonly Criterion[];
  readonly moves: readonly TaskColumn[];
  /** The rows that can come first: all, those with a `task-sent` or `task-received`, or those with a `task-started`. */
  readonly of: RowKind;
}

type RowKind = "any" | "described" | "started";

function greatest(...columns: TaskColumn[]): Criterion[] {
  return columns.map((column) => ({ column, wins: "greatest" }));
}

/** A column by itself. */
function single(wins: "greatest" | "least", column: TaskColumn, of: RowKind): Group {
  return { order: [{ column, wins }], moves: [column], of };
}

const STATE_KEY = ["state_rank", "state_hostname", "state_at"] as const;
const STATE_VALUES = ["runtime", "result", "exception", "traceback", "revoked_by"] as const;
const WORKER = ["worker_at", "worker_rank", "worker"] as const;
const DESCRIPTION = ["first_name", "first_queue", "args", "kwargs", "eta", "expires"] as const;
const NAME = ["name", "queue"] as const;
const RUN = ["run_started_at", "run_hostname"] as const;

export const MERGE_GROUPS: readonly Group[] = [
  // The state, as packages/celery/src/model/task-state.ts orders it.
  {
    order: [
      ...greatest("state_precedence"),
      { column: "state_order_at", wins: "greatest", orElse: ["state_at"] },
      ...greatest(...STATE_KEY, ...STATE_VALUES),
    ],
    moves: ["state_precedence", "state_order_at", ...STATE_KEY, "status", ...STATE_VALUES],
    of: "any",
  },
  // The latest worker event's worker.
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
  // The latest task-sent's; without any, the latest task-received's. Rows from before `name_at` existed have those of the earliest.
  {
    order: [
      { column: "sent_at", wins: "present" },
      { column: "name_at", wins: "greatest", orElse: ["sent_at", "received_at"] },
      ...greatest(...NAME),
    ],
    moves: ["name_at", ...NAME],
    of: "described",
  },
  // The latest start.
  { order: greatest(...RUN), moves: RUN, of: "started" },
  // Every event that has these has the same; a task-sent of Celery's message protocol 1 has neither.
  single("greatest", "root_id", "described"),
  single("greatest", "parent_id", "described"),
  single("greatest", "retries", "described"),
  single("least", "sent_at", "described"),
  single("least", "received_at", "described"),
  single("least", "started_at", "started"),
  single("greatest", "last_event_at", "any"),
];

// Rows of one batch, merged by task in memory, for one statement must not touch a row twice.

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
