/** Stores the lengths of Celery's queues by minute. Any order and repetition of observations leads to the same rows. */
import type { QueuesObserved } from "@celery-metrics-exporter/celery";
import { type SQL, sql } from "drizzle-orm";
import { storableText } from "../merge/task-row.ts";
import { type Database, type Drizzle, query, queryKept } from "../tables/database.ts";
import { celeryQueueMinute } from "../tables/schema.ts";
import { deleteRows } from "./roll-up.ts";

/** The queue of what is known only of all queues together. */
const ALL_QUEUES = "";

/**
 * Stores observations of queues in `celery_queue_minute`, with one statement.
 *
 * @throws {UnavailableError} if the database is unavailable, is not migrated or refuses access.
 * @throws {RefusedDataError} if it rejects a row. Then none is stored.
 */
export async function mergeQueueMinutes(database: Database, observations: readonly QueuesObserved[]): Promise<void> {
  // A monitor's clock that is ahead would otherwise decide until then.
  const now = Date.now() / 1_000;
  const rows = observations.flatMap(({ timestamp, queues, unacked }) => {
    const at = Math.min(timestamp, now);
    const ofQueues = queues.map(({ name, messages, consumers }) => ({ at, queue: storableText(name), messages, consumers }));
    return unacked === undefined
      ? ofQueues
      : [...ofQueues, { at, queue: ALL_QUEUES, unacked: unacked.messages, oldest_at: unacked.oldestAt }];
  });
  if (rows.length > 0) await queryKept(database, queuesStatement(rows));
}

/**
 * Runs the statements without rows, so that PostgreSQL checks the table and our rights.
 *
 * @throws {UnavailableError} if it could not work.
 */
export async function checkQueueMinutes(database: Drizzle): Promise<void> {
  await query(database, queuesStatement([]));
  await query(database, sql`delete from ${celeryQueueMinute} where false`);
}

/** Of two observations at the same instant, the one with the greater values counts. */
function queuesStatement(rows: readonly object[]): SQL {
  return sql`with incoming as materialized (
      select to_timestamp(at) as observed_at, queue collate "C" as queue, messages, consumers, unacked, to_timestamp(oldest_at) as oldest_at
      from json_to_recordset(${JSON.stringify(rows)}::json) as row (at float8, queue text, messages bigint, consumers integer, unacked bigint, oldest_at float8)
    ), newest as (
      select distinct on (minute, queue) date_trunc('minute', observed_at, 'UTC') as minute, incoming.*,
        max(messages) over of_minute as messages_max, max(unacked) over of_minute as unacked_max
      from incoming
      window of_minute as (partition by date_trunc('minute', observed_at, 'UTC'), queue)
      order by minute, queue, observed_at desc, coalesce(messages, -1) desc, coalesce(consumers, -1) desc, coalesce(unacked, -1) desc,
        coalesce(oldest_at, '-infinity') desc
    )
    insert into ${celeryQueueMinute} as stored (minute, queue, observed_at, messages, messages_max, consumers, unacked, unacked_max, oldest_at)
    select minute, queue, observed_at, messages, messages_max, consumers, unacked, unacked_max, oldest_at from newest order by minute, queue
    on conflict (minute, queue) do update set
      (observed_at, messages, consumers, unacked, oldest_at) = (
        select case when wins then excluded.observed_at else stored.observed_at end, case when wins then excluded.messages else stored.messages end,
          case when wins then excluded.consumers else stored.consumers end, case when wins then excluded.unacked else stored.unacked end,
          case when wins then excluded.oldest_at else stored.oldest_at end
        from (select ${sql.raw(`(${orderOf("excluded")}) > (${orderOf("stored")})`)} as wins offset 0) comparison
      ),
      messages_max = greatest(stored.messages_max, excluded.messages_max), unacked_max = greatest(stored.unacked_max, excluded.unacked_max)`;
}

function orderOf(row: string): string {
  const numbers = ["messages", "consumers", "unacked"].map((column) => `coalesce(${row}.${column}, -1)`);
  return [`${row}.observed_at`, ...numbers, `coalesce(${row}.oldest_at, '-infinity')`].join(", ");
}

/**
 * Deletes minutes that are older than this many days.
 *
 * @returns how many rows.
 * @throws {UnavailableError} if the database is unavailable.
 */
export function deleteOldQueueMinutes(database: Database, days: number, signal?: AbortSignal): Promise<number> {
  return deleteRows(database, sql`${celeryQueueMinute}`, sql`minute < now() - ${days}::int * interval '1 day'`, signal);
}
