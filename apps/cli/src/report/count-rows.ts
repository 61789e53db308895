/** Counts the rows of the table by status. */
import type { Database } from "@celery-metrics-exporter/db";
import { sql } from "drizzle-orm";

/** Limit on the rows to count: in an embedded database, counting this many takes some 30 ms of this process. */
export const MAX_ROWS_COUNTED = 100_000;

/** Tasks by status; undefined if there are more than `MAX_ROWS_COUNTED`. */
export async function countRows({ drizzle }: Pick<Database, "drizzle">): Promise<ReadonlyMap<string, number> | undefined> {
  const some = sql`select status from celery_task limit ${sql.raw(String(MAX_ROWS_COUNTED + 1))}`;
  const result: unknown = await drizzle.execute(
    sql`select status, count(*)::int as tasks from (${some}) as counted group by status order by status`,
  );
  const { rows } = result as { rows: { status: string; tasks: number }[] };
  const sum = rows.reduce((all, { tasks }) => all + tasks, 0);
  return sum > MAX_ROWS_COUNTED ? undefined : new Map(rows.map(({ status, tasks }) => [status, tasks]));
}
