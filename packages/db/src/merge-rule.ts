/**
 * The merge of two rows of one task, as data: the in-memory merge (`merge-rows.ts`) and the upsert (`upsert-statement.ts`) are both made
 * from it, so that they cannot drift apart.
 *
 * Each group's columns move together, to the row that comes first by the group's total order. That makes the merge idempotent,
 * commutative and associative: any order, split or repetition of a task's events ends in the same row. docs/adr/0003-row-merge.md says why
 * the groups are these.
 */
import type { TaskColumn } from "./task-row.ts";

/** One criterion of a group's order. A NULL never wins against a value. */
export interface Criterion {
  readonly column: TaskColumn;
  readonly wins: "greatest" | "least";
  /** Looked at only where this column is NULL, in each row by itself. */
  readonly without?: TaskColumn;
}

export interface Group {
  /** The first criterion that differs decides. Texts compare by UTF-8 bytes. */
  readonly order: readonly Criterion[];
  readonly moves: readonly TaskColumn[];
}

function greatest(...columns: TaskColumn[]): Criterion[] {
  return columns.map((column) => ({ column, wins: "greatest" }));
}

/** A column by itself. */
function single(wins: Criterion["wins"], column: TaskColumn): Group {
  return { order: [{ column, wins }], moves: [column] };
}

const STATE_KEY = ["state_precedence", "state_at", "state_rank", "state_hostname"] as const;
const STATE_VALUES = ["runtime", "result", "exception", "traceback"] as const;
const WORKER = ["worker_at", "worker_rank", "worker"] as const;
const DESCRIPTION = ["name", "queue", "args", "kwargs", "eta", "expires"] as const;

export const MERGE_GROUPS: readonly Group[] = [
  // The state, as packages/events/src/task-state.ts orders it.
  { order: greatest(...STATE_KEY, ...STATE_VALUES), moves: [...STATE_KEY, "status", ...STATE_VALUES] },
  // The latest worker event's worker.
  { order: greatest(...WORKER), moves: WORKER },
  // The earliest task-sent as a whole; without any, the earliest task-received.
  {
    order: [
      { column: "sent_at", wins: "least" },
      { column: "received_at", wins: "least", without: "sent_at" },
      ...greatest(...DESCRIPTION),
    ],
    moves: [...DESCRIPTION, "args_json", "kwargs_json"],
  },
  // Every event that has these has the same; a task-sent of Celery's message protocol 1 has neither.
  single("greatest", "root_id"),
  single("greatest", "parent_id"),
  single("greatest", "retries"),
  single("least", "sent_at"),
  single("least", "received_at"),
  single("least", "started_at"),
  single("greatest", "last_event_at"),
];
