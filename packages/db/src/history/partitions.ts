/** The daily partitions of `celery_task_event`. Only the table's owner may create and drop them, so a function of the migration does both. */
import { getTableName, sql } from "drizzle-orm";
import { ADVISORY_LOCKS } from "../migrate/locks.ts";
import { type Database, query } from "../tables/database.ts";
import { celeryTaskEvent } from "../tables/schema.ts";

/** Days for which partitions exist in advance. The receiver rejects events that are more than a day ahead. */
const DAYS_AHEAD = 3;

/** How many partitions were created and dropped. */
export interface PartitionChanges {
  readonly created: number;
  readonly dropped: number;
}

/**
 * Creates the partitions of the coming days, and drops events older than `keepDays` (0 keeps all). Only one process at a time does it; the others change
 * nothing. Waits at most 2 s for statements that use the table.
 *
 * @throws {UnavailableError} if the database is unavailable, is not migrated or refuses access.
 */
export async function maintainPartitions(database: Database, keepDays: number): Promise<PartitionChanges> {
  const [changes] = await query<PartitionChanges>(
    database,
    sql`select created, dropped
        from (select pg_try_advisory_xact_lock(${ADVISORY_LOCKS.partitions}, ${getTableName(celeryTaskEvent)}::regclass::oid::int) as ours) turn,
             lateral celery_task_event_partitions(case when ours then ${keepDays}::int end, ${DAYS_AHEAD})`,
  );
  return changes ?? { created: 0, dropped: 0 };
}

/**
 * Calls the function without arguments, so that it does nothing, but Postgres checks our rights.
 *
 * @throws {UnavailableError} if we may not execute it, or if it is missing.
 */
export async function checkMayMaintainPartitions(database: Database): Promise<void> {
  await query(database, sql`select celery_task_event_partitions(null, null)`);
}
