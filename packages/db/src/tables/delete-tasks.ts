/** Deletes what came of tasks that turn out to be excluded. */
import { getTableName, sql } from "drizzle-orm";
import { type Database, query } from "./database.ts";
import { celeryTask } from "./schema.ts";
import { storableText } from "../merge/task-row.ts";
import { pause } from "@celery-metrics-exporter/runtime";
import { ADVISORY_LOCKS } from "../migrate/locks.ts";

/**
 * Deletes these tasks, but for those of which a `task-sent` is known; ids that are not there do not matter. Locks in the order of the upsert, so that the two do not deadlock.
 *
 * @returns how many there were.
 * @throws {UnavailableError} when the database does not serve.
 */
export async function deleteTasks(database: Database, ids: readonly string[]): Promise<number> {
  if (ids.length === 0) return 0;
  const deleted = await query(
    database,
    sql`with doomed as materialized (
          select task_id from ${celeryTask}
          where task_id in (select value from json_array_elements_text(${JSON.stringify(ids.map(storableText))}::json))
            and sent_at is null
          order by task_id for update
        )
        delete from ${celeryTask} where task_id in (select task_id from doomed) returning 1`,
  );
  return deleted.length;
}

// Retention: deletes old tasks in small statements, so that nobody waits for it.

export interface DeleteOldTasksOptions {
  /** A task goes when its last event, its row's creation and, unless it has finished, its ETA are all longer ago than this. */
  readonly olderThanDays: number;
  readonly batchSize?: number;
  readonly pauseMs?: number;
  /** Ends the work after the statement that runs. */
  readonly signal?: AbortSignal;
}

/**
 * Deletes until nothing old is left. Only one process at a time does it: a statement that finds another at work deletes nothing.
 *
 * @returns how many were deleted.
 * @throws {UnavailableError} when the database does not serve.
 */
export async function deleteOldTasks(database: Database, options: DeleteOldTasksOptions): Promise<number> {
  const { olderThanDays, batchSize = 2_000, pauseMs = 50, signal } = options;
  for (let total = 0; ;) {
    const deleted = await deleteBatch(database, olderThanDays, batchSize);
    total += deleted;
    if (deleted < batchSize) return total;
    await pause(pauseMs, signal);
    if (signal?.aborted === true) return total;
  }
}

/**
 * `created_at` has the index; a row that a batch is writing right now is left for later. The lock is the transaction's, so that a connection
 * pooler keeps none, and the table's, so that two schemas of a database do not wait for each other.
 */
async function deleteBatch(database: Database, days: number, limit: number): Promise<number> {
  const rows = await query<{ task_id: string }>(
    database,
    sql`with turn as materialized (select pg_try_advisory_xact_lock(${ADVISORY_LOCKS.retention}, ${getTableName(celeryTask)}::regclass::oid::int) as ours),
             cutoff as materialized (select now() - ${days}::int * interval '1 day' as at)
        delete from ${celeryTask} where ctid = any(array(
          select task.ctid from ${celeryTask} task
          where (select ours from turn)
            and created_at < (select at from cutoff)
            and greatest(last_event_at, case when finished_at is null then eta end) < (select at from cutoff)
          order by created_at limit ${limit}::int
          for update skip locked
        ))
        returning task_id`,
  );
  return rows.length;
}
