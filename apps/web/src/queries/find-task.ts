/** One task, and the tasks around it. */
import { attemptsColumn, attemptsOf, celeryTaskEvent, type Attempt, type AttemptsFacts, type Reader } from "@celery-metrics-exporter/db";
import { sql } from "drizzle-orm";
import { z } from "zod";
import { TASK, TaskDetail, TaskItem, isoOf, listenedUntilNow, selectList } from "./columns.ts";
import { ExactJson } from "./exact-json.ts";
import { withStuck, type Running } from "./stuck.ts";

/** A task beside another one. */
export const TaskLink = TaskItem.pick({ task_id: true, name: true, status: true, seen_at: true }).meta({ id: "TaskLink" });
export type TaskLink = Pick<TaskItem, "task_id" | "name" | "status" | "seen_at">;

export interface FoundTask {
  readonly task: TaskDetail;
  /** Null if it has none or its row is gone. */
  readonly parent: TaskLink | null;
  readonly children: readonly TaskLink[];
  readonly more_children: boolean;
  readonly attempts: readonly Attempt[];
}

const MAX_CHILDREN = 100;

type Link = TaskLink & { readonly is_parent: boolean };
type Row = Omit<TaskDetail, "stuck"> & Running & { readonly facts: AttemptsFacts; readonly links: readonly Link[] | null };

/** @returns undefined if no task has this id. */
export async function findTask(reader: Reader, id: string, withData: boolean): Promise<FoundTask | undefined> {
  const [list, until] = [await selectList(reader, TaskDetail, withData), await listenedUntilNow(reader)];
  const rows = await reader.read<Row>(
    sql`select ${list}, ${attemptsColumn({ until })} as facts, ${LINKS} as links from ${TASK} where task_id = ${id}`,
  );
  const [row] = await withStuck(reader, rows);
  if (row === undefined) return undefined;
  const { facts, links, ...columns } = row;
  const attempts = attemptsOf(facts);
  const task = { ...columns, args_json: exact(row.args_json), kwargs_json: exact(row.kwargs_json) };
  const children = (links ?? []).filter(({ is_parent: isParent }) => !isParent);
  return {
    task,
    parent: links?.find(({ is_parent: isParent }) => isParent) ?? null,
    children: children.slice(0, MAX_CHILDREN),
    more_children: children.length > MAX_CHILDREN,
    attempts: withData ? attempts : attempts.map((attempt) => ({ ...attempt, exception: null, traceback: null })),
  };
}

const LINK = sql`other.task_id, other.name, other.status, ${isoOf(sql`other.seen_at`)} as seen_at`;

/** The parent and the children as JSON. `parent_id` has no index, but parent and child are in the same tree. The collation is that of `root_id`, without which its index does not serve. */
const LINKS = sql`(
  select json_agg(link) from (
    (select ${LINK}, true as is_parent from ${TASK} other where other.task_id = ${TASK}.parent_id and other.task_id <> ${TASK}.task_id)
    union all
    (
      select ${LINK}, false from ${TASK} other
      where other.root_id = coalesce(${TASK}.root_id, ${TASK}.task_id) collate "default" and other.root_id <> other.task_id
        and other.parent_id = ${TASK}.task_id and other.task_id <> ${TASK}.task_id
      limit ${MAX_CHILDREN + 1}::int
    )
  ) link
)`;

function exact(json: unknown): ExactJson | null {
  return typeof json === "string" ? new ExactJson(json) : null;
}

const text = z.string().nullable();

/** An event of a task, as Celery reported it. */
export const TaskEvent = z
  .object({
    at: z.iso.datetime().describe("By the clock of its sender."),
    type: z.string().describe("Celery's: `task-sent`, `task-received`, `task-started`, …"),
    hostname: z.string().describe("The worker, or the client for `task-sent`."),
    name: text.describe("Only for `task-sent` and `task-received`, like `retries` and `again`."),
    queue: text.describe("Only for `task-sent`."),
    retries: z.number().int().nullable(),
    again: z.boolean().describe("Whether the task itself sent the message, as for a retry or a replacement."),
    runtime: z.number().nullable().describe("Seconds. Only for `task-succeeded`."),
    exception: text.describe("Only for `task-failed` and `task-retried`, like `traceback`. Null for a `viewer`."),
    traceback: text.describe("Null for a `viewer`."),
    revoked_by: text.describe("Only for `task-revoked`: `expired`, `request`, `terminated (SIGTERM)`."),
    requeue: z.boolean().describe("Only for `task-rejected`: whether the message went back to the broker."),
    exited: z.boolean().describe("Only for `task-failed`: whether a signal made the process exit."),
  })
  .meta({ id: "TaskEvent" });
export type TaskEvent = z.output<typeof TaskEvent>;

export interface TaskEvents {
  readonly items: TaskEvent[];
  readonly history: "all" | "unusual" | null;
  readonly truncated: boolean;
}

const MAX_EVENTS = 1_000;
/** Columns of NULL or true. */
const FLAGS: ReadonlySet<string> = new Set(["again", "requeue", "exited"]);
const EVENT_DATA: ReadonlySet<string> = new Set(["exception", "traceback"]);

/** The stored events of a task in the order of their times. @returns undefined if neither the task nor an event of it is known. */
export async function readTaskEvents(reader: Reader, id: string, withData: boolean): Promise<TaskEvents | undefined> {
  const list = Object.keys(TaskEvent.shape).map((name) => {
    const column = sql`event.${sql.identifier(name)}`;
    if (!withData && EVENT_DATA.has(name)) return sql`null as ${sql.identifier(name)}`;
    return sql`${name === "at" ? isoOf(column) : FLAGS.has(name) ? sql`${column} is true` : column} as ${sql.identifier(name)}`;
  });
  const items = await reader.read<TaskEvent>(
    sql`select ${sql.join(list, sql`, `)} from ${celeryTaskEvent} event where task_id = ${id} order by event.at, event.type, event.hostname limit ${MAX_EVENTS + 1}`,
  );
  if (items.length === 0) {
    const [task] = await reader.read(sql`select 1 from ${TASK} where task_id = ${id}`);
    if (task === undefined) return undefined;
  }
  return { items: items.slice(0, MAX_EVENTS), history: historyOf(items), truncated: items.length > MAX_EVENTS };
}

/** With `unusual`, the row has the message of the first attempt, so its event is not stored. */
function historyOf(events: readonly TaskEvent[]): TaskEvents["history"] {
  const isOrdinary = ({ type, retries, again }: TaskEvent): boolean =>
    (type === "task-sent" || type === "task-received") && !again && (retries ?? 0) === 0;
  return events.length === 0 ? null : events.some(isOrdinary) ? "all" : "unusual";
}
