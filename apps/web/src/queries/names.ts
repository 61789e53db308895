/** The names that tasks, queues and workers have. */
import type { Reader } from "@celery-metrics-exporter/db";
import { sql } from "drizzle-orm";
import { z } from "zod";
import { STATUSES, TASK, isoOf } from "./columns.ts";

export interface Names {
  readonly names: readonly string[];
  readonly queues: readonly string[];
  readonly workers: readonly string[];
}

const MAX_NAMES = 1_000;
/** Queues and workers have no index: the newest tasks show those in use. */
const NEWEST = 5_000;

/** Jumps from each name to the next in the index: reading all names row by row would read every task. */
const NAMES = sql`with recursive each_name as (
    (select name from ${TASK} where name is not null order by name limit 1)
    union all
    select (select name from ${TASK} where name > each_name.name order by name limit 1) from each_name where each_name.name is not null
  )
  select name from each_name where name is not null limit ${MAX_NAMES}`;

export async function readNames(reader: Reader): Promise<Names> {
  const newest = sql`(select queue, worker from ${TASK} order by seen_at desc, task_id desc limit ${NEWEST}) newest`;
  const [names, queues, workers] = await Promise.all([
    reader.read<{ name: string }>(NAMES),
    reader.read<{ name: string }>(sql`select distinct queue as name from ${newest} where queue is not null order by 1 limit ${MAX_NAMES}`),
    reader.read<{ name: string }>(
      sql`select distinct worker as name from ${newest} where worker is not null order by 1 limit ${MAX_NAMES}`,
    ),
  ]);
  return { names: toNames(names), queues: toNames(queues), workers: toNames(workers) };
}

function toNames(rows: readonly { readonly name: string }[]): string[] {
  return rows.map(({ name }) => name);
}

export const TaskType = z
  .object({
    name: z.string(),
    last_task_id: z.string(),
    last_seen_at: z.iso.datetime(),
    last_status: z.enum(STATUSES),
    last_failure_id: z.string().nullable().describe("The newest task with the status FAILURE."),
    last_failure_at: z.iso.datetime().nullable(),
  })
  .meta({ id: "TaskType" });
export type TaskType = z.output<typeof TaskType>;

export async function readTaskTypes(reader: Reader): Promise<readonly TaskType[]> {
  return reader.read<TaskType>(
    sql`select each.name, newest.task_id as last_task_id, ${isoOf(sql`newest.seen_at`)} as last_seen_at, newest.status as last_status,
               failed.task_id as last_failure_id, ${isoOf(sql`failed.seen_at`)} as last_failure_at
        from (${NAMES}) each
        cross join lateral (
          select task_id, seen_at, status from ${TASK} where name = each.name order by seen_at desc, task_id desc limit 1
        ) newest
        left join lateral (
          select task_id, seen_at from ${TASK} where problem = 'FAILURE' and name = each.name order by seen_at desc, task_id desc limit 1
        ) failed on true
        order by newest.seen_at desc`,
  );
}
