/** The tree of tasks that one task began. */
import { isoInstant, type Reader } from "@celery-metrics-exporter/db";
import { sql } from "drizzle-orm";
import type { z } from "zod";
import { TASK, TaskItem } from "./columns.ts";
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
  eta: true,
  sent_at: true,
  received_at: true,
  started_at: true,
  finished_at: true,
  runtime: true,
  wait_time: true,
  duration: true,
  seen_at: true,
}).meta({ id: "TreeNode" });

type TreeNode = z.output<typeof TreeNode>;

/** What the order and the parents depend on. */
export type Node = Pick<TreeNode, "task_id" | "parent_id" | "seen_at">;

export interface FoundTree {
  /** The id of the root, whose row may be unknown. */
  readonly root: string;
  readonly nodes: TreeNode[];
  readonly truncated: boolean;
}

const MAX_NODES = 5_000;
const COLUMNS = Object.keys(TreeNode.shape) as (keyof TreeNode)[];
const INSTANTS: readonly string[] = ["eta", "sent_at", "received_at", "started_at", "finished_at", "seen_at"] satisfies (keyof TreeNode)[];

/** Instants as seconds: PostgreSQL takes longer to write them as text than to read the rows. */
const VALUES = sql.join(
  COLUMNS.map((name) => (INSTANTS.includes(name) ? sql`date_part('epoch', ${sql.identifier(name)})` : sql`${sql.identifier(name)}`)),
  sql`, `,
);

/** The values of `COLUMNS`. */
type Values = readonly (string | number | null)[];

/**
 * The tasks of the tree that contains `id`, with the root if it is known. One JSON text is read several times as fast as thousands of rows.
 *
 * @returns undefined if no task has this id.
 */
export async function readTree(reader: Reader, id: string): Promise<FoundTree | undefined> {
  const root = await rootOf(reader, id);
  if (root === undefined) return undefined;
  const [read] = await reader.read<{ rows: readonly Values[] | null }>(
    sql`select json_agg(json_build_array(${VALUES})) as rows from (
          select * from (
            (select * from ${TASK} where task_id in (${id}, ${root}))
            union all
            (select * from ${TASK} where root_id = ${root} and root_id <> task_id and task_id <> ${id} limit ${MAX_NODES + 1})
          ) celery_task limit ${MAX_NODES + 1}
        ) celery_task`,
  );
  const rows = read?.rows ?? [];
  return { root, nodes: withoutCycles(rows.slice(0, MAX_NODES).map(toNode)), truncated: rows.length > MAX_NODES };
}

function toNode(values: Values): TreeNode {
  const node: Record<string, unknown> = {};
  for (const [place, name] of COLUMNS.entries()) {
    const value = values[place];
    node[name] = typeof value === "number" && INSTANTS.includes(name) ? toIso(value) : value;
  }
  return node as TreeNode;
}

/** @param seconds since 1970. */
function toIso(seconds: number): string {
  return isoInstant(Math.round(seconds * 1e6));
}

/**
 * The nodes, earliest first, so that following parents ends: a task that names itself as its parent, or one of its descendants, has none. Of several that
 * follow each other in a circle, this is the earliest. A task whose parent is unknown keeps its `parent_id`.
 */
export function withoutCycles<N extends Node>(nodes: readonly N[]): N[] {
  const sorted = [...nodes].sort((one, other) => compare(one.seen_at, other.seen_at) || compare(one.task_id, other.task_id));
  const places = new Map(sorted.map(({ task_id }, place) => [task_id, place]));
  const parents = sorted.map(({ parent_id }) => (parent_id === null ? undefined : places.get(parent_id)));
  const cut = new Set<number>();
  /** From which place each one was first reached. */
  const reached: number[] = [];
  for (const start of sorted.keys()) {
    for (let at: number | undefined = start; at !== undefined; at = cut.has(at) ? undefined : parents[at]) {
      const since = reached[at];
      if (since === start) cut.add(earliestOfCircle(at, parents));
      if (since !== undefined) break;
      reached[at] = start;
    }
  }
  return cut.size === 0 ? sorted : sorted.map((node, place) => (cut.has(place) ? { ...node, parent_id: null } : node));
}

function earliestOfCircle(start: number, parents: readonly (number | undefined)[]): number {
  let earliest = start;
  for (let at = parents[start]; at !== undefined && at !== start; at = parents[at]) earliest = Math.min(earliest, at);
  return earliest;
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
