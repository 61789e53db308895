/** Deletes tasks: those found to be excluded, and old ones. */
import { type SQL, getTableName, sql } from "drizzle-orm";
import { type Database, query } from "./database.ts";
import { celeryTask, celeryTaskEvent } from "./schema.ts";
import type { HistoryMode } from "../history/task-events.ts";
import { storableText } from "../merge/task-row.ts";
import { pause } from "@celery-metrics-exporter/runtime";
import { ADVISORY_LOCKS } from "../migrate/locks.ts";
import { SEALED_BEFORE, noteMinutes } from "../rollups/roll-up.ts";

/**
 * Deletes these tasks and, unless no history is kept, their events, except tasks with a known `task-sent`. Ignores unknown ids. Locks rows in the order
 * of the upsert, so that the two do not deadlock.
 *
 * @returns the number of deleted tasks.
 * @throws {UnavailableError} if the database is unavailable.
 */
export async function deleteTasks(database: Database, ids: readonly string[], history: HistoryMode = "unusual"): Promise<number> {
  if (ids.length === 0) return 0;
  const events = sql`, forgotten as (delete from ${celeryTaskEvent} where task_id in (select task_id from doomed))`;
  const deleted = await query(
    database,
    sql`with doomed as materialized (
          select task_id from ${celeryTask}
          where task_id in (select value from json_array_elements_text(${JSON.stringify(ids.map(storableText))}::json))
            and sent_at is null
          order by task_id for update
        )${history === "off" ? sql`` : events},
        deleted as (delete from ${celeryTask} where task_id in (select task_id from doomed) returning task_id, seen_at),
        noted as (${noteMinutes(sql`select date_trunc('minute', seen_at, 'UTC') as minute from deleted`)})
        select task_id from deleted`,
  );
  return deleted.length;
}

// Retention: deletes old tasks in small statements, so that no other statement waits long.

/** States that can have a limit of their own. */
const RETENTION_STATES = ["SUCCESS", "FAILURE", "REVOKED", "REJECTED"] as const;
type RetentionState = (typeof RETENTION_STATES)[number];

export interface DeleteOldTasksOptions {
  /** Deletes a task if its last event, the creation of its row and, unless it has finished, its ETA are all older than this. 0 keeps all. */
  readonly olderThanDays: number;
  /** Other limits for finished tasks. */
  readonly byState?: Readonly<Partial<Record<RetentionState, number>>>;
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
  const { olderThanDays, byState = {} } = options;
  const own = RETENTION_STATES.filter((state) => byState[state] !== undefined && byState[state] !== olderThanDays);
  let total = await deleteMatching(database, olderThanDays, unlessIn(own), options);
  for (const state of own) total += await deleteMatching(database, byState[state] ?? 0, isIn(state), options);
  return total;
}

function unlessIn(states: readonly RetentionState[]): SQL {
  return sql`(finished_at is null or status <> all(array(select json_array_elements_text(${JSON.stringify(states)}::json))))`;
}

/** Problems have an index of their own. */
function isIn(state: RetentionState): SQL {
  return state === "SUCCESS" ? sql`status = ${state} and finished_at is not null` : sql`problem = ${state} and finished_at is not null`;
}

async function deleteMatching(database: Database, days: number, condition: SQL, options: DeleteOldTasksOptions): Promise<number> {
  const { batchSize: limit = 2_000, pauseMs = 50, signal } = options;
  if (days === 0) return 0;
  let since = "-infinity";
  for (let total = 0; ;) {
    if (signal?.aborted === true) return total;
    const { deleted, last } = await deleteBatch(database, { days, condition, since, limit });
    total += deleted;
    if (deleted < limit) return total;
    since = last ?? since;
    await pause(pauseMs, signal);
  }
}

interface BatchOptions {
  readonly days: number;
  readonly condition: SQL;
  /** The least `seen_at`. */
  readonly since: string;
  readonly limit: number;
}

interface DeletedBatch {
  readonly deleted: number;
  /** `seen_at` of the last one: the next batch continues from there, and does not read again the rows that stay. */
  readonly last: string | null;
}

/**
 * Searches by `seen_at`, which has an index and is never later than a task's last event. Skips rows that a batch is writing. The lock belongs to the
 * transaction, so that none is left on a pooled connection, and to the table, so that two schemas of a database do not block each other.
 */
async function deleteBatch(database: Database, { days, condition, since, limit }: BatchOptions): Promise<DeletedBatch> {
  const [batch] = await query<DeletedBatch>(
    database,
    sql`with turn as materialized (select pg_try_advisory_xact_lock(${ADVISORY_LOCKS.retention}, ${getTableName(celeryTask)}::regclass::oid::int) as ours),
             cutoff as materialized (select least(now() - ${days}::int * interval '1 day', ${SEALED_BEFORE}) as at),
             deleted as (
               delete from ${celeryTask} where ctid = any(array(
                 select task.ctid from ${celeryTask} task
                 where (select ours from turn)
                   and seen_at >= ${since}::timestamptz
                   and seen_at < (select at from cutoff)
                   and ${condition}
                   and created_at < (select at from cutoff)
                   and greatest(last_event_at, case when finished_at is null then eta end) < (select at from cutoff)
                 order by seen_at limit ${limit}::int
                 for update skip locked
               ))
               returning seen_at
             )
        select count(*)::int as deleted, max(seen_at)::text as last from deleted`,
  );
  return batch ?? { deleted: 0, last: null };
}
