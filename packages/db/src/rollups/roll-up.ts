/**
 * Keeps `celery_task_minute` equal to a count of `celery_task`, and `celery_task_period` to sums of that. Minutes are recomputed and never added to,
 * because events repeat and rows change.
 *
 * Every statement that writes tasks notes the minutes that these tasks were in before and are in now, in `celery_task_minute_dirty` and in the same
 * transaction. One process at a time takes notes that it sees and recomputes these minutes, in one transaction: the count sees at least what the notes
 * stand for, and a note that comes meanwhile stays for the next pass. The same transaction recomputes the hours and days of these minutes that are over.
 */
import { type SQL, getTableName, sql } from "drizzle-orm";
import { toDatabaseError } from "../connect/database-error.ts";
import { ADVISORY_LOCKS } from "../migrate/locks.ts";
import { type Database, type Drizzle, execute, query } from "../tables/database.ts";
import { celeryRollup, celeryTask, celeryTaskMinute, celeryTaskMinuteDirty, celeryTaskPeriod } from "../tables/schema.ts";
import { SUMS, VALUES, idIn, idOfGreatest, sumsOf } from "./counts.ts";
import { BOUNDS_SECONDS, packedCount } from "./histogram.ts";

/** The most frequent names and queues of a minute are kept; the others are counted together. Some applications generate names. */
const MOST_NAMES = 200;
const MOST_QUEUES = 100;
const OTHER = "(other)";
/** All names, or all queues. */
export const ALL = "(all)";

/** Minutes of one transaction, at first. It takes more while that is quick. */
const FIRST_MINUTES = 60;
const MOST_MINUTES = 2_000;
const QUICK_MS = 500;
const DELETED_AT_ONCE = 5_000;

const NAME = getTableName(celeryTaskMinute);
const PERIOD = getTableName(celeryTaskPeriod);
const ROLLUP = getTableName(celeryRollup);

/** Widths of periods, in minutes. */
export const HOUR = 60;
export const DAY = 1_440;

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
 * Recomputes the minutes whose turn it is: the current one whenever it has changed, an older one once a change has waited for a tenth of the minute's
 * age or an hour, and one that was never counted at once. All changed minutes of an hour that is over have their turn together, because the hour is
 * recomputed with them.
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
      const minutes = taken.map(({ minute }) => minute);
      if (minutes.length > 0) {
        await execute(inside, minutesStatement(minutes));
        await execute(inside, totalsStatement(minutes));
      }
      for (const period of PERIODS) {
        const over = await execute<{ at: string }>(inside, overStatement(minutes, period));
        if (over.length > 0) await execute(inside, period.countStatement(over.map(({ at }) => at)));
      }
      await execute(
        inside,
        sql`insert into ${celeryRollup} as rollup (name, rolled_up_at, hours_before, days_before) values (${NAME}, now(), ${sql.raw(HOURS_BEFORE)}, ${sql.raw(DAYS_BEFORE)})
            on conflict (name) do update set rolled_up_at = excluded.rolled_up_at, hours_before = greatest(rollup.hours_before, excluded.hours_before),
              days_before = greatest(rollup.days_before, excluded.days_before)`,
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

/** Deletes the notes of minutes whose turn it is, the newest first, and returns these minutes: at least so many if there are, and whole hours. */
function takeStatement(most: number, all: boolean): SQL {
  return sql`with noted as (
        select minute, case when minute < ${sql.raw(HOURS_BEFORE)} then min(min(noted_at)) over (partition by date_trunc('hour', minute, 'UTC')) else min(noted_at) end as since
        from ${celeryTaskMinuteDirty} group by minute
      ),
      due as materialized (
        select minute, date_trunc('hour', minute, 'UTC') as hour from noted
        where ${all}::boolean or minute > now() - interval '1 minute'
          or since <= now() - least((now() - minute) / 10, interval '1 hour')
          or not exists (select from ${celeryTaskMinute} counted where counted.minute = noted.minute)
      ),
      -- Whole hours, because each is recomputed as a whole.
      first as (select distinct hour from (select hour from due order by minute desc limit ${most}::int) newest),
      taken as (delete from ${celeryTaskMinuteDirty} dirty using due join first using (hour) where dirty.minute = due.minute returning dirty.minute)
    select distinct minute::text from taken`;
}

const BOUNDS = `'{${BOUNDS_SECONDS.join(",")}}'::double precision[]`;

/** See `sealRollUps`. */
const SEAL = `coalesce((SELECT sealed_before FROM ${ROLLUP} WHERE name = '${NAME}'), '-infinity')`;

/** Hours and days that are over are counted. Events of their last minute still come a little later. */
const HOURS_BEFORE = "date_trunc('hour', now() - interval '2 minutes', 'UTC')";
const DAYS_BEFORE = "date_trunc('day', now() - interval '2 minutes', 'UTC')";

interface Target {
  readonly table: string;
  /** Its column for the time. */
  readonly time: string;
  /** Only for periods, in minutes. */
  readonly width?: number;
}

/**
 * Replaces the counts of these times in a table, unless they are sealed as a whole. Looks for the seal in the statement that counts: one that sees
 * retention's deletions sees the seal too, which was written before.
 *
 * @param cells the counts by `at`, `name`, `queue` and `status`, from the times in `due`, which has a column `at`. Columns are those of `sumsOf`.
 */
function replaceStatement({ table, time, width }: Target, times: readonly string[], cells: string): SQL {
  const isOurs = width === undefined ? "" : `old.width = ${width} AND `;
  const key = [...(width === undefined ? [] : ["width"]), time, "name", "queue", "status"].join(", ");
  const fixed = width === undefined ? "" : `${width}, `;
  // `(all)` takes one of the places.
  const names = width === undefined ? MOST_NAMES : MOST_NAMES + 1;
  const queues = width === undefined ? MOST_QUEUES : MOST_QUEUES + 1;
  const reserved = width === undefined ? `('${OTHER}', '${ALL}')` : `('${OTHER}')`;
  return sql`WITH due AS MATERIALIZED (
  SELECT value::timestamptz AS at FROM json_array_elements_text(${JSON.stringify(times)}::json) AS given (value)
  WHERE value::timestamptz > ${sql.raw(`${SEAL} - interval '${width ?? 1} minutes'`)}
), ${sql.raw(`cells AS MATERIALIZED (${cells}), names AS (
  SELECT at, name, row_number() OVER (PARTITION BY at ORDER BY sum(n) DESC, name) AS place FROM cells GROUP BY at, name
), queues AS (
  SELECT at, queue, row_number() OVER (PARTITION BY at ORDER BY sum(n) DESC, queue) AS place FROM cells GROUP BY at, queue
), ranked AS MATERIALIZED (
  SELECT cells.*, names.place <= ${names} AND name NOT IN ${reserved} AS is_kept_name, queues.place <= ${queues} AND queue NOT IN ${reserved} AS is_kept_queue
  FROM cells JOIN names USING (at, name) JOIN queues USING (at, queue)
), fresh AS MATERIALIZED (
  SELECT at, name, queue, status, n, runtime_sum, runtime_hist, wait_sum, wait_hist, runtime_max,
    ${idIn("slowest")} AS slowest_id, ${idIn("last_failed")} AS last_failed_id
  FROM ranked WHERE is_kept_name AND is_kept_queue
  UNION ALL
  SELECT at, CASE WHEN is_kept_name THEN name ELSE '${OTHER}' END, CASE WHEN is_kept_queue THEN queue ELSE '${OTHER}' END, status, ${SUMS},
    ${idIn("max(slowest)")}, ${idIn("max(last_failed)")}
  FROM ranked WHERE NOT (is_kept_name AND is_kept_queue)
  GROUP BY 1, 2, 3, 4
), vanished AS (
  DELETE FROM ${table} AS old USING due
  WHERE ${isOurs}old.${time} = due.at AND NOT EXISTS (
    SELECT FROM fresh WHERE fresh.at = old.${time} AND fresh.name = old.name AND fresh.queue = old.queue AND fresh.status = old.status
  )
)
INSERT INTO ${table} AS old (${key}, ${VALUES.join(", ")})
SELECT ${fixed}at, name, queue, status, ${VALUES.join(", ")} FROM fresh
ON CONFLICT (${key}) DO UPDATE SET ${VALUES.map((column) => `${column} = excluded.${column}`).join(", ")}
WHERE (${VALUES.map((column) => `old.${column}`).join(", ")}) IS DISTINCT FROM (${VALUES.map((column) => `excluded.${column}`).join(", ")})`)}`;
}

/** Counts these minutes anew. */
function minutesStatement(minutes: readonly string[]): SQL {
  // First by bucket, because many tasks are alike.
  const cells = `SELECT at, name, queue, status, sum(n)::int AS n,
    coalesce(sum(runtime_sum), 0) AS runtime_sum, coalesce(sum(${packedCount("n", "runtime_bucket")}), 0) AS runtime_hist,
    coalesce(sum(wait_sum), 0) AS wait_sum, coalesce(sum(${packedCount("n", "wait_bucket")}), 0) AS wait_hist,
    max(runtime_max) AS runtime_max, max(slowest) AS slowest, max(last_failed) AS last_failed
  FROM (
    SELECT at, name, queue, status, runtime_bucket, wait_bucket, count(*) AS n, sum(duration) AS runtime_sum, sum(wait_time) AS wait_sum,
      max(duration) AS runtime_max, ${idOfGreatest("task_id", "duration")} AS slowest,
      ${idOfGreatest("task_id", "date_part('epoch', state_at)")} FILTER (WHERE status = 'FAILURE') AS last_failed
    FROM due CROSS JOIN LATERAL (
      SELECT coalesce(name, '') COLLATE "C" AS name, coalesce(queue, '') COLLATE "C" AS queue, status COLLATE "C" AS status, duration, wait_time,
        width_bucket(duration, ${BOUNDS}) AS runtime_bucket, width_bucket(wait_time, ${BOUNDS}) AS wait_bucket, task_id, state_at
      FROM ${getTableName(celeryTask)} WHERE seen_at >= due.at AND seen_at < due.at + interval '1 minute' OFFSET 0
    ) AS task
    GROUP BY at, name, queue, status, runtime_bucket, wait_bucket
  ) AS alike
  GROUP BY at, name, queue, status`;
  return replaceStatement({ table: NAME, time: "minute" }, minutes, cells);
}

/** All names of these minutes together, by queue and in all. */
function totalsStatement(minutes: readonly string[]): SQL {
  const cells = `SELECT minute AS at, '${ALL}' COLLATE "C" AS name, CASE WHEN grouping(queue) = 1 THEN '${ALL}' ELSE queue END COLLATE "C" AS queue, status, ${sumsOf("minute")}
  FROM due JOIN ${NAME} ON minute = due.at GROUP BY GROUPING SETS ((minute, queue, status), (minute, status))`;
  return replaceStatement({ table: PERIOD, time: "at", width: 1 }, minutes, cells);
}

interface Period {
  readonly unit: "hour" | "day";
  /** Where the server's time zone has summer time, `1 day` can be 23 or 25 hours. */
  readonly length: "1 hour" | "24 hours";
  /** Periods before this instant are over. */
  readonly before: string;
  /** The column of `celery_rollup` with that instant as of the last pass. */
  readonly column: string;
  readonly countStatement: (periods: readonly string[]) => SQL;
}

/** Days are sums of hours, so hours come first. */
const PERIODS: readonly Period[] = [
  { unit: "hour", length: "1 hour", before: HOURS_BEFORE, column: "hours_before", countStatement: hoursStatement },
  { unit: "day", length: "24 hours", before: DAYS_BEFORE, column: "days_before", countStatement: daysStatement },
];

/** The periods of these minutes that are over, and all that are over since the last pass. Mostly there are none. */
function overStatement(minutes: readonly string[], { unit, length, before, column }: Period): SQL {
  return sql`SELECT date_trunc(${unit}::text, value::timestamptz, 'UTC')::text AS at FROM json_array_elements_text(${JSON.stringify(minutes)}::json) AS given (value)
    WHERE value::timestamptz < ${sql.raw(before)}
    UNION SELECT generate_series(${sql.raw(`${column}, ${before} - interval '${length}', interval '${length}'`)})::text FROM ${celeryRollup} WHERE name = ${NAME}`;
}

function hoursStatement(hours: readonly string[]): SQL {
  const cells = `SELECT at, name, queue, status, ${sumsOf("time")}
  FROM due CROSS JOIN LATERAL (
    SELECT minute AS time, name, queue, status, ${VALUES.join(", ")} FROM ${NAME} WHERE minute >= due.at AND minute < due.at + interval '1 hour'
    UNION ALL
    SELECT at, name, queue, status, ${VALUES.join(", ")} FROM ${PERIOD} AS total
    WHERE width = 1 AND name = '${ALL}' AND total.at >= due.at AND total.at < due.at + interval '1 hour'
  ) AS minutes GROUP BY at, name, queue, status`;
  return replaceStatement({ table: PERIOD, time: "at", width: HOUR }, hours, cells);
}

function daysStatement(days: readonly string[]): SQL {
  const cells = `SELECT due.at, name, queue, status, ${sumsOf("hour.at")}
  FROM due JOIN ${PERIOD} AS hour ON width = ${HOUR} AND hour.at >= due.at AND hour.at < due.at + interval '24 hours'
  GROUP BY due.at, name, queue, status`;
  return replaceStatement({ table: PERIOD, time: "at", width: DAY }, days, cells);
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

export interface StatisticsDays {
  /** For how long minutes are kept. */
  readonly minutes: number;
  /** For how long hours and days are kept. 0: forever, as for minutes. */
  readonly all: number;
}

/**
 * Deletes old counts.
 *
 * @returns how many rows.
 * @throws {UnavailableError} if the database is unavailable.
 */
export async function deleteOldRollUps(database: Database, { minutes, all }: StatisticsDays, signal?: AbortSignal): Promise<number> {
  let deleted = 0;
  const forMinutes = all > 0 && (minutes === 0 || minutes > all) ? all : minutes;
  if (forMinutes > 0) {
    // An hour must not be counted again after some of its minutes are gone.
    await sealRollUps(database, forMinutes, signal);
    await query(
      database,
      sql`update ${celeryRollup} set minutes_since = greatest(minutes_since, date_trunc('day', least(sealed_before, now() - ${forMinutes}::int * interval '1 day'), 'UTC'))
          where name = ${NAME}`,
    );
    const isOld = sql`< (select minutes_since from ${celeryRollup} where name = ${NAME})`;
    // Those of unfinished tasks are few, and lost tasks are found by them.
    deleted += await deleteRows(database, sql`${celeryTaskMinute}`, sql`minute ${isOld} and status not in ('RECEIVED', 'STARTED')`, signal);
    deleted += await deleteRows(database, sql`${celeryTaskPeriod}`, sql`width = 1 and at ${isOld}`, signal);
  }
  if (all > 0) {
    const isOld = sql`< date_trunc('day', now() - ${all}::int * interval '1 day', 'UTC')`;
    deleted += await deleteRows(database, sql`${celeryTaskMinute}`, sql`minute ${isOld}`, signal);
    for (const width of [HOUR, DAY])
      deleted += await deleteRows(database, sql`${celeryTaskPeriod}`, sql`width = ${width} and at ${isOld}`, signal);
  }
  return deleted;
}

/** In small statements, so that no other waits long. */
export async function deleteRows(database: Database, table: SQL, condition: SQL, signal?: AbortSignal): Promise<number> {
  for (let total = 0; ;) {
    const deleted = await query(
      database,
      sql`delete from ${table} where ctid = any(array(
            select ctid from ${table} where ${condition} limit ${DELETED_AT_ONCE}::int for update skip locked
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
  for (const statement of [minutesStatement([]), totalsStatement([])]) await query(database, statement);
  await query(
    database,
    sql`insert into ${celeryRollup} (name) select '' where false on conflict (name) do update set name = excluded.name`,
  );
}
