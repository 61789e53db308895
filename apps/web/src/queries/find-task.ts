/** One task, and the tasks around it. */
import type { Reader } from "@celery-metrics-exporter/db";
import { sql } from "drizzle-orm";
import { TASK, TaskDetail, TaskItem, selectList } from "./columns.ts";
import { ExactJson } from "./exact-json.ts";

/** A task beside another one. */
export const TaskLink = TaskItem.pick({ task_id: true, name: true, status: true, seen_at: true }).meta({ id: "TaskLink" });
export type TaskLink = Pick<TaskItem, "task_id" | "name" | "status" | "seen_at">;

export interface FoundTask {
  readonly task: TaskDetail;
  /** Null if it has none or its row is gone. */
  readonly parent: TaskLink | null;
  readonly children: readonly TaskLink[];
  readonly more_children: boolean;
}

const MAX_CHILDREN = 100;

/** @returns undefined if no task has this id. */
export async function findTask(reader: Reader, id: string, withData: boolean): Promise<FoundTask | undefined> {
  const [row] = await reader.read<TaskDetail>(sql`select ${selectList(TaskDetail, withData)} from ${TASK} where task_id = ${id}`);
  if (row === undefined) return undefined;
  const task = { ...row, args_json: exact(row.args_json), kwargs_json: exact(row.kwargs_json) };
  const link = selectList(TaskLink, false);
  const root = row.root_id ?? id;
  const [parents, children] = await Promise.all([
    row.parent_id === null || row.parent_id === id
      ? []
      : reader.read<TaskLink>(sql`select ${link} from ${TASK} where task_id = ${row.parent_id}`),
    // `parent_id` has no index, but parent and child are in the same tree.
    reader.read<TaskLink>(
      sql`select ${link} from ${TASK} where root_id = ${root} and root_id <> task_id and parent_id = ${id} and task_id <> ${id} limit ${MAX_CHILDREN + 1}`,
    ),
  ]);
  return { task, parent: parents[0] ?? null, children: children.slice(0, MAX_CHILDREN), more_children: children.length > MAX_CHILDREN };
}

function exact(json: unknown): ExactJson | null {
  return typeof json === "string" ? new ExactJson(json) : null;
}
