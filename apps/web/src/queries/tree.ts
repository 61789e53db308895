/** The tree of tasks that one task began. */
import type { Reader } from "@celery-metrics-exporter/db";
import { sql } from "drizzle-orm";
import { TASK, TaskItem, selectList } from "./columns.ts";
import { rootOf } from "./filters.ts";

/** A task of a tree, with the times of a waterfall. */
export const TreeNode = TaskItem.pick({
  task_id: true,
  name: true,
  queue: true,
  status: true,
  worker: true,
  retries: true,
  parent_id: true,
  sent_at: true,
  received_at: true,
  started_at: true,
  finished_at: true,
  runtime: true,
  wait_time: true,
  duration: true,
  seen_at: true,
}).meta({ id: "TreeNode" });

export interface Node {
  readonly task_id: string;
  readonly parent_id: string | null;
  readonly seen_at: string;
}

const MAX_NODES = 5_000;

/**
 * The tasks of the tree that contains `id`, with the root if it is known.
 *
 * @returns undefined if no task has this id.
 */
export async function readTree(
  reader: Reader,
  id: string,
): Promise<
  { readonly root: string; readonly nodes: readonly (Node & Record<string, unknown>)[]; readonly truncated: boolean } | undefined
> {
  const list = selectList(TreeNode, false);
  const root = await rootOf(reader, id);
  if (root === undefined) return undefined;
  const rows = await reader.read<Node & Record<string, unknown>>(
    sql`select ${list} from (
          (select * from ${TASK} where task_id in (${id}, ${root}))
          union all
          (select * from ${TASK} where root_id = ${root} and root_id <> task_id and task_id <> ${id} limit ${MAX_NODES + 1})
        ) celery_task limit ${MAX_NODES + 1}`,
  );
  return { root, nodes: withoutCycles(rows.slice(0, MAX_NODES)), truncated: rows.length > MAX_NODES };
}

/**
 * The nodes, earliest first, so that following parents ends: a task that names itself as its parent, or one of its descendants, has none. A task whose
 * parent is unknown keeps its `parent_id`.
 */
export function withoutCycles<N extends Node>(nodes: readonly N[]): N[] {
  const sorted = [...nodes].sort((one, other) => compare(one.seen_at, other.seen_at) || compare(one.task_id, other.task_id));
  const parentOf = new Map(sorted.map(({ task_id, parent_id }) => [task_id, parent_id]));
  const ends = new Set<string>();
  for (const { task_id } of sorted) {
    const path = new Set<string>();
    for (let at: string | null | undefined = task_id; at !== null && at !== undefined && !ends.has(at); at = parentOf.get(at)) {
      if (path.has(at)) {
        // The earliest task of the cycle, because the tasks are looked at in this order.
        parentOf.set(task_id, null);
        break;
      }
      path.add(at);
    }
    for (const each of path) ends.add(each);
  }
  return sorted.map((node) => ({ ...node, parent_id: parentOf.get(node.task_id) ?? null }));
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
