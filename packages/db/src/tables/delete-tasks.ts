/** Deletes tasks: those found to be excluded, and old ones. */
import { getTableName, sql } from "drizzle-orm";
import { type Database, query } from "./database.ts";
import { celeryTask } from "./schema.ts";
import { storableText } from "../merge/task-row.ts";
import { pause } from "@celery-metrics-exporter/runtime";
import { ADVISORY_LOCKS } from "../migrate/locks.ts";
import { SEALED_BEFORE, noteMinutes } from "../rollups/roll-up.ts";

/**
 * Deletes these tasks, except those with a known `task-sent`. Ignores unknown ids. Locks rows in the order of the upsert, so that the two do not
 * deadlock.
 *
 * @returns the number of deleted tasks.
 * @throws {UnavailableError} if the database is unavailable.
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
        ), deleted as (delete from ${celeryTask} where task_id in (select task_id from doomed) returning task_id, seen_at),
        noted as (${noteMinutes(sql`select date_trunc('minute', seen_at, 'UTC') as minute from deleted`)})
        select task_id from deleted`,
  );
  return deleted.length;
}

// Retention: deletes old tasks in small statements, so that no other statement waits long.

export interface DeleteOldTasksOptions {
  /** Deletes a task if its last event, the creation of its row and, unless it has finished, its ETA are all older than this. */
  readonly olderThanDays: number;
  readonly batchSize?: number;
  readonly pauseMs?: number;
  /** Stops after the current statement. */
  readonly signal?: AbortSignal;
}

/**
 * Deletes all old tasks. Only one process at a time deletes: while another one does, a statement deletes nothing.
 *
 * @returns the number of deleted tasks.
 * @throws {UnavailableError} if the database is unavailable.
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
 * Searches by `created_at`, which has the index. Skips rows that a batch is writing. The lock belongs to the transaction, so that none is left on a
 * pooled connection, and to the table, so that two schemas of a database do not block each other.
 */
async function deleteBatch(database: Database, days: number, limit: number): Promise<number> {
  const rows = await query<{ task_id: string }>(
    database,
    sql`with turn as materialized (select pg_try_advisory_xact_lock(${ADVISORY_LOCKS.retention}, ${getTableName(celeryTask)}::regclass::oid::int) as ours),
             cutoff as materialized (select least(now() - ${days}::int * interval '1 day', ${SEALED_BEFORE}) as at)
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
