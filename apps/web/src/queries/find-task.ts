/** One task, and the tasks around it. */
import { attemptsColumns, attemptsOf, celeryTaskEvent, type Attempt, type AttemptsRow, type Reader } from "@celery-metrics-exporter/db";
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

/** @returns undefined if no task has this id. */
export async function findTask(reader: Reader, id: string, withData: boolean): Promise<FoundTask | undefined> {
  const [list, until] = [await selectList(reader, TaskDetail, withData), await listenedUntilNow(reader)];
  // Two connections are quicker than one statement.
  const [[row], [ofAttempts]] = await Promise.all([
    reader
      .read<Omit<TaskDetail, "stuck"> & Running>(sql`select ${list} from ${TASK} where task_id = ${id}`)
      .then((rows) => withStuck(reader, rows)),
    reader.read<AttemptsRow>(sql`select ${attemptsColumns({ until })} from ${TASK} where task_id = ${id}`),
  ]);
  if (row === undefined) return undefined;
  const links = await readLinks(reader, row);
  const attempts = ofAttempts === undefined ? [] : attemptsOf(ofAttempts);
  const task = { ...row, args_json: exact(row.args_json), kwargs_json: exact(row.kwargs_json) };
  const children = links.filter(({ is_parent: isParent }) => !isParent);
  return {
    task,
    parent: links.find(({ is_parent: isParent }) => isParent) ?? null,
    children: children.slice(0, MAX_CHILDREN),
    more_children: children.length > MAX_CHILDREN,
    attempts: withData ? attempts : attempts.map((attempt) => ({ ...attempt, exception: null, traceback: null })),
  };
}

type Link = TaskLink & { readonly is_parent: boolean };

/** The parent and the children. `parent_id` has no index, but parent and child are in the same tree, whose root the planner must see to use its index. */
async function readLinks(
  reader: Reader,
  { task_id: id, parent_id: parent, root_id: root }: Pick<TaskDetail, "task_id" | "parent_id" | "root_id">,
): Promise<readonly Link[]> {
  const list = await selectList(reader, TaskLink, false);
  return reader.read<Link>(
    sql`select ${list}, is_parent from (
          (select *, true as is_parent from ${TASK} where task_id = ${parent === id ? null : parent})
          union all
          (select *, false from ${TASK} where root_id = ${root ?? id} and root_id <> task_id and parent_id = ${id} and task_id <> ${id} limit ${MAX_CHILDREN + 1}::int)
        ) celery_task`,
  );
}

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
