/**
 * Keeps `celery_task_minute` equal to a count of `celery_task`. Minutes are recomputed and never added to, because events repeat and rows change.
 *
 * Every statement that writes tasks notes the minutes that these tasks were in before and are in now, in `celery_task_minute_dirty` and in the same
 * transaction. One process at a time takes notes that it sees and recomputes these minutes, in one transaction: the count sees at least what the notes
 * stand for, and a note that comes meanwhile stays for the next pass.
 */
import { type SQL, getTableName, sql } from "drizzle-orm";
import { toDatabaseError } from "../connect/database-error.ts";
import { ADVISORY_LOCKS } from "../migrate/locks.ts";
import { type Database, type Drizzle, execute, query } from "../tables/database.ts";
import { celeryRollup, celeryTask, celeryTaskMinute, celeryTaskMinuteDirty } from "../tables/schema.ts";
import { BOUNDS_SECONDS, BUCKETS } from "./histogram.ts";

/** The most frequent names and queues of a minute are kept; the others are counted together. Some applications generate names. */
const MOST_NAMES = 200;
const MOST_QUEUES = 100;
const OTHER = "(other)";

/** Minutes of one transaction, at first. It takes more while that is quick. */
const FIRST_MINUTES = 20;
const MOST_MINUTES = 2_000;
const QUICK_MS = 500;
const DELETED_AT_ONCE = 5_000;

const NAME = getTableName(celeryTaskMinute);

/** Notes the minutes of a query's column `minute`, as a part of a statement that changes tasks. */
export function noteMinutes(minutes: SQL): SQL {
  return sql`insert into ${celeryTaskMinuteDirty} (minute) select distinct minute from (${minutes}) touched where minute is not null`;
}

export interface RollUpOptions {
  /** Also the minutes whose turn is later, and waits for another process that is rolling up. */
  readonly all?: boolean;
  /** Stops after the current transaction. */
  readonly signal?: AbortSignal;
}

/**
 * Recomputes the minutes whose turn it is: the newest two whenever they have changed, an older one once a change has waited for a tenth of the minute's
 * age or an hour, and one that was never counted at once.
 *
 * @returns how many minutes were recomputed: 0 too if another process is doing it.
 * @throws {UnavailableError} if the database is unavailable.
 */
export async function rollUp(database: Database, { all = false, signal }: RollUpOptions = {}): Promise<number> {
  let total = 0;
  for (let most = FIRST_MINUTES; ;) {
    const startedAt = performance.now();
    const done = await onePass(database, most, all);
    total += done;
    if (done < most || signal?.aborted === true) return total;
    if (performance.now() - startedAt < QUICK_MS) most = Math.min(most * 2, MOST_MINUTES);
  }
}

async function onePass({ drizzle }: Database, most: number, all: boolean): Promise<number> {
  try {
    // Separate statements, because each must see what the process before us has committed.
    return await drizzle.transaction(async (transaction) => {
      const inside = { drizzle: transaction };
      if (!(await isOurTurn(inside, all))) return 0;
      const taken = await execute<{ minute: string }>(inside, takeStatement(most, all));
      if (taken.length > 0) await execute(inside, recomputeStatement(taken.map(({ minute }) => minute)));
      await execute(
        inside,
        sql`insert into ${celeryRollup} as rollup (name, rolled_up_at) values (${NAME}, now())
            on conflict (name) do update set rolled_up_at = excluded.rolled_up_at`,
      );
      return taken.length;
    });
  } catch (thrown) {
    throw toDatabaseError(thrown);
  }
}

/**
 * Makes the planner use the index and group in memory. For a minute with many tasks it might read much of the table, sort on disk, use several processes or compile
 * code, which all cost several times as much.
 */
const PLAN = {
  enable_seqscan: "off",
  jit: "off",
  max_parallel_workers_per_gather: "0",
  work_mem: "32MB",
};

/** Whether no other process rolls up. The lock belongs to the transaction, and to the table, because two schemas of a database are independent. */
async function isOurTurn(transaction: Drizzle, waits: boolean): Promise<boolean> {
  const key = sql`${ADVISORY_LOCKS.rollUp}, ${NAME}::regclass::oid::int`;
  const lock = waits ? sql`pg_advisory_xact_lock(${key}) is not null` : sql`pg_try_advisory_xact_lock(${key})`;
  const settings = Object.entries(PLAN).map(([name, value]) => sql`, set_config(${name}, ${value}, true)`);
  const [turn] = await execute<{ ours: boolean }>(transaction, sql`select ${lock} as ours ${sql.join(settings)}`);
  return turn?.ours === true;
}

/** Deletes the notes of minutes whose turn it is, the newest first, and returns these minutes. */
function takeStatement(most: number, all: boolean): SQL {
  return sql`with noted as (select minute, min(noted_at) as since from ${celeryTaskMinuteDirty} group by minute),
      due as materialized (
        select minute from noted
        where ${all}::boolean or minute > now() - interval '2 minutes'
          or since <= now() - least((now() - minute) / 10, interval '1 hour')
          or not exists (select from ${celeryTaskMinute} counted where counted.minute = noted.minute)
        order by minute desc limit ${most}::int
      ),
      taken as (delete from ${celeryTaskMinuteDirty} dirty using due where dirty.minute = due.minute returning dirty.minute)
    select distinct minute::text from taken`;
}

const BOUNDS = `'{${BOUNDS_SECONDS.join(",")}}'::double precision[]`;

const PLACES = Array.from({ length: BUCKETS }, (_, index) => index);

/** How many rows are in each bucket. The array ends with the last bucket that is not empty. */
function histogram(bucket: string): string {
  const counts = PLACES.map((index) => `(count(*) FILTER (WHERE ${bucket} = ${index}))::int`);
  return `coalesce((ARRAY[${counts.join(", ")}])[:max(${bucket}) + 1], '{}')`;
}

function sumOfHistograms(column: string): string {
  const sums = PLACES.map((index) => `coalesce(sum(${column}[${index + 1}]), 0)::int`);
  return `coalesce((ARRAY[${sums.join(", ")}])[:max(cardinality(${column}))], '{}')`;
}

/** A double's bytes as text, which sorts like the number if that is not negative. With an id behind, `max` finds the id of the greatest. */
const KEY_LENGTH = 16;
const keyed = (value: string): string => `max((encode(float8send(${value}), 'hex') || task_id) COLLATE "C")`;

const VALUES = ["n", "runtime_sum", "runtime_hist", "wait_sum", "wait_hist", "runtime_max", "slowest_id", "last_failed_id"] as const;

/**
 * Counts these minutes anew, unless they are sealed. Looks for the seal in the statement that counts: one that sees retention's deletions sees the seal
 * too, which was written before.
 */
function recomputeStatement(minutes: readonly string[]): SQL {
  const table = NAME;
  return sql`${sql.raw(`
WITH due AS MATERIALIZED (
  SELECT minute FROM json_array_elements_text(`)}${JSON.stringify(minutes)}${sql.raw(`::json) AS given (value) CROSS JOIN LATERAL (SELECT value::timestamptz AS minute) AS read
  WHERE minute >= coalesce((SELECT sealed_before FROM ${getTableName(celeryRollup)} WHERE name = '${table}'), '-infinity')
), cells AS MATERIALIZED (
  SELECT minute, name, queue, status, count(*)::int AS n,
    coalesce(sum(duration), 0) AS runtime_sum, ${histogram("runtime_bucket")} AS runtime_hist,
    coalesce(sum(wait_time), 0) AS wait_sum, ${histogram("wait_bucket")} AS wait_hist,
    max(duration) AS runtime_max, ${keyed("duration")} AS slowest,
    ${keyed("date_part('epoch', state_at)")} FILTER (WHERE status = 'FAILURE') AS last_failed
  FROM due CROSS JOIN LATERAL (
    SELECT coalesce(name, '') COLLATE "C" AS name, coalesce(queue, '') COLLATE "C" AS queue, status COLLATE "C" AS status, duration, wait_time,
      width_bucket(duration, ${BOUNDS}) AS runtime_bucket, width_bucket(wait_time, ${BOUNDS}) AS wait_bucket, task_id, state_at
    FROM ${getTableName(celeryTask)} WHERE seen_at >= due.minute AND seen_at < due.minute + interval '1 minute' OFFSET 0
  ) AS task
  GROUP BY minute, name, queue, status
), names AS (
  SELECT minute, name, row_number() OVER (PARTITION BY minute ORDER BY sum(n) DESC, name) AS place FROM cells GROUP BY minute, name
), queues AS (
  SELECT minute, queue, row_number() OVER (PARTITION BY minute ORDER BY sum(n) DESC, queue) AS place FROM cells GROUP BY minute, queue
), ranked AS MATERIALIZED (
  SELECT cells.*, names.place <= ${MOST_NAMES} AND name <> '${OTHER}' AS is_kept_name, queues.place <= ${MOST_QUEUES} AND queue <> '${OTHER}' AS is_kept_queue
  FROM cells JOIN names USING (minute, name) JOIN queues USING (minute, queue)
), fresh AS MATERIALIZED (
  SELECT minute, name, queue, status, n, runtime_sum, runtime_hist, wait_sum, wait_hist, runtime_max,
    substr(slowest, ${KEY_LENGTH + 1}) AS slowest_id, substr(last_failed, ${KEY_LENGTH + 1}) AS last_failed_id
  FROM ranked WHERE is_kept_name AND is_kept_queue
  UNION ALL
  SELECT minute, CASE WHEN is_kept_name THEN name ELSE '${OTHER}' END, CASE WHEN is_kept_queue THEN queue ELSE '${OTHER}' END, status, sum(n)::int,
    sum(runtime_sum), ${sumOfHistograms("runtime_hist")}, sum(wait_sum), ${sumOfHistograms("wait_hist")}, max(runtime_max),
    substr(max(slowest), ${KEY_LENGTH + 1}), substr(max(last_failed), ${KEY_LENGTH + 1})
  FROM ranked WHERE NOT (is_kept_name AND is_kept_queue)
  GROUP BY 1, 2, 3, 4
), vanished AS (
  DELETE FROM ${table} AS old USING due
  WHERE old.minute = due.minute AND NOT EXISTS (
    SELECT FROM fresh WHERE fresh.minute = old.minute AND fresh.name = old.name AND fresh.queue = old.queue AND fresh.status = old.status
  )
)
INSERT INTO ${table} AS old (minute, name, queue, status, ${VALUES.join(", ")})
SELECT minute, name, queue, status, ${VALUES.join(", ")} FROM fresh
ON CONFLICT (minute, name, queue, status) DO UPDATE SET ${VALUES.map((column) => `${column} = excluded.${column}`).join(", ")}
WHERE (${VALUES.map((column) => `old.${column}`).join(", ")}) IS DISTINCT FROM (${VALUES.map((column) => `excluded.${column}`).join(", ")})`)}`;
}

/**
 * Before retention deletes tasks: counts everything once more, and from then on keeps the counts of all minutes before these days. Retention deletes
 * only tasks whose last event is older than the seal, and a task is seen before its last event. If the number of days grows later, these minutes stay as
 * they are.
 *
 * @param days the shortest time for which any task is kept.
 * @throws {UnavailableError} if the database is unavailable.
 */
export async function sealRollUps(database: Database, days: number, signal?: AbortSignal): Promise<void> {
  await rollUp(database, { all: true, ...(signal !== undefined && { signal }) });
  await query(
    database,
    sql`insert into ${celeryRollup} as rollup (name, sealed_before) values (${NAME}, date_trunc('minute', now() - ${days}::int * interval '1 day', 'UTC'))
        on conflict (name) do update set sealed_before = greatest(rollup.sealed_before, excluded.sealed_before)`,
  );
}

/** Retention must delete nothing after this instant; NULL if there was never a seal. */
export const SEALED_BEFORE = sql`(select sealed_before from ${celeryRollup} where name = ${sql.raw(`'${NAME}'`)})`;

/**
 * Deletes counts of minutes that are older than this many days.
 *
 * @returns how many rows.
 * @throws {UnavailableError} if the database is unavailable.
 */
export function deleteOldRollUps(database: Database, days: number, signal?: AbortSignal): Promise<number> {
  return deleteOldMinutes(database, sql`${celeryTaskMinute}`, days, signal);
}

/** The same for a table with a column `minute`. In small statements, so that no other waits long. */
export async function deleteOldMinutes(database: Database, table: SQL, days: number, signal?: AbortSignal): Promise<number> {
  for (let total = 0; ;) {
    const deleted = await query(
      database,
      sql`delete from ${table} where ctid = any(array(
            select ctid from ${table} where minute < now() - ${days}::int * interval '1 day' order by minute limit ${DELETED_AT_ONCE}::int for update skip locked
          )) returning 1`,
    );
    total += deleted.length;
    if (deleted.length < DELETED_AT_ONCE || signal?.aborted === true) return total;
  }
}

/**
 * Checks our rights, and that the tables exist.
 *
 * @throws {UnavailableError} if rolling up could not work.
 */
export async function checkRollUps(database: Drizzle): Promise<void> {
  await query(database, sql`delete from ${celeryTaskMinuteDirty} where false`);
  await query(database, recomputeStatement([]));
  await query(
    database,
    sql`insert into ${celeryRollup} (name) select '' where false on conflict (name) do update set name = excluded.name`,
  );
}
