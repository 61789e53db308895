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
  // The state, as packages/events/src/task-state.ts orders it.
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
