/** Whether a worker is alive, and which tasks it took with it. */
import { type SQL, getTableName, sql } from "drizzle-orm";
import { countOf, percentile, unpackHistogram } from "../rollups/histogram.ts";
import { DAY, HOUR } from "../rollups/roll-up.ts";
import {
  celeryListening,
  celeryRollup,
  celeryTask,
  celeryTaskMinute,
  celeryTaskMinuteDirty,
  celeryTaskPeriod,
  celeryWorker,
} from "../tables/schema.ts";

/**
 * `up`: it was heard lately. `lost`: it fell silent without a word. `offline`: it said that it stops. `unknown`: it was not heard, but receivers did not listen,
 * its events are processed late, or all workers fell silent together.
 */
export type WorkerState = "up" | "lost" | "offline" | "unknown";

/** A worker that is silent for longer is gone. It sends a heartbeat every two seconds. */
export const WORKER_LOST_AFTER_SECONDS = 30;

/** The columns of `celery_worker` on which the state depends. Instants are seconds since the epoch. */
export interface WorkerSigns {
  readonly lastEventType: string | undefined;
  readonly heardAt: number | undefined;
  readonly observedAt: number | undefined;
}

/** Longer than the interval at which a monitor asks workers, which is a minute. */
const UNKNOWN_AFTER_SECONDS = 90;

/**
 * @param until as `listenedUntil`, in seconds since the epoch: how far silence means something.
 * @param now as `receiversNow`, in seconds since the epoch.
 */
export function workerState({ lastEventType, heardAt, observedAt = 0 }: WorkerSigns, until: number | undefined, now: number): WorkerState {
  if (lastEventType === "worker-offline") return "offline";
  const sign = Math.max(heardAt ?? 0, observedAt);
  // The silence of a worker without heartbeats means nothing, and the monitor asks it only once a minute.
  if (heardAt !== undefined && until !== undefined && until - sign > WORKER_LOST_AFTER_SECONDS) return "lost";
  return now - sign > UNKNOWN_AFTER_SECONDS ? "unknown" : "up";
}

/** A source from which nothing came for so long has no say, because its receivers may have been removed. Its workers look silent from then on. */
const SOURCE_SECONDS = 600;

/**
 * If all workers fall silent at once, the broker may be at fault. They then get this long; and once the first is heard again, the others get a little more.
 */
const TOGETHER = { withinSeconds: 10, lostAfterSeconds: 300, afterwardsSeconds: 60 };

export const seconds = (count: number): SQL => sql`${count}::float8 * interval '1 second'`;

/** The rows of the sources that receivers read from lately, as a query. */
function sources(): SQL {
  return sql`select * from ${celeryListening} where until > (select max(until) from ${celeryListening}) - ${seconds(SOURCE_SECONDS)}`;
}

const SIGN = sql`greatest(heard_at, observed_at)`;
const IS_ONLINE = sql`last_event_type is distinct from 'worker-offline'`;

/**
 * A query for when the workers that were up, at least two, fell silent together: `fell_silent_at`, when the last of them was heard. And `is_long`, whether a
 * receiver that listened in this time heard none for so long that the broker is not at fault. Without a row if they are not silent.
 */
export function fellSilentTogether(since: SQL, until: SQL): SQL {
  const within = seconds(TOGETHER.withinSeconds);
  return sql`select latest as fell_silent_at, ${until} - greatest(${since}, latest) >= ${seconds(TOGETHER.lostAfterSeconds)} as is_long
    from (select max(${SIGN}) as latest from ${celeryWorker} where ${IS_ONLINE}) worker
    where latest < ${until} - ${within} and 1 < (select count(*) from ${celeryWorker} where ${IS_ONLINE} and ${SIGN} >= latest - ${within})`;
}

/**
 * The instant until which the receivers would have heard a worker that is alive, as an expression. A worker that was last heard long before it is silent. It
 * is not the time of now: while no receiver listens, or we lag, every worker would look silent.
 *
 * It is known of no worker which source it belongs to, so the source that was listened to least counts. NULL if the receivers of one have not listened for
 * long enough since they began: workers that live may not have been heard again yet. If all workers that were up fell silent together, none of them is
 * silent for the next minutes.
 */
export function listenedUntil(): SQL {
  // Of those that fell silent together, the first is not lost before the last is silent too.
  const spare = seconds(WORKER_LOST_AFTER_SECONDS - TOGETHER.withinSeconds);
  return sql`(
    select least(heard_until, (
      select min(quiet_since) + ${spare} from (${sources()}) source
      where quiet_since > coalesce(silent_since, '-infinity') and heard_until < quiet_until + ${seconds(TOGETHER.afterwardsSeconds)}
    ))
    from (select case when bool_and(enough_until is not null) then min(enough_until) end as heard_until from (${sources()}) source) known
  )`;
}

/** A receiver's clock is off by this much at most. If it seems to be more, what it received is processed late. */
const MOST_SKEW_SECONDS = 300;

/**
 * Now, by the clock of the receiver that is most behind, as an expression: how long ago a worker was heard must not depend on the difference between clocks.
 */
export function receiversNow(): SQL {
  return sql`coalesce((select min(now() - least(stored_at - until, ${seconds(MOST_SKEW_SECONDS)})) from (${sources()}) source), now())`;
}

export interface LostTasksOptions {
  /** The instant up to which silence means something, if it is known already: planning the expression takes longer than reading a list. */
  readonly until?: SQL;
}

/** Whether a worker (`worker`, a row of `celery_worker`) is silent, as a condition. */
export function isSilent({ until = listenedUntil() }: LostTasksOptions = {}): SQL {
  return sql`greatest(worker.heard_at, worker.observed_at) < ${until} - ${seconds(WORKER_LOST_AFTER_SECONDS)}`;
}

/**
 * A condition on a row of `celery_task`: the task is unfinished, and its worker is silent or has restarted since it last reported the task. A worker that
 * said goodbye is silent too, but may still be finishing tasks, so it gets as long. Celery's own status stays as it is. A worker without heartbeats is
 * never found lost.
 *
 * @param task the name of the row in the query.
 */
export function isLost(options: LostTasksOptions = {}, task: SQL = sql`task`): SQL {
  return sql`(${task}.status in ('RECEIVED', 'STARTED') and exists (
    select from ${celeryWorker} worker
    where worker.hostname = ${task}.worker collate "C" and worker.heard_at is not null and (worker.online_at > ${task}.worker_at or ${isSilent(options)})
  ))`;
}

/**
 * The tasks that a worker has and that were seen in minutes that fit, as a query for rows of `celery_task`. Reads only minutes in which the roll-up counts
 * such tasks, and those that it has not counted since they changed. There are few, because tasks finish. No index of `celery_task` could tell, because
 * every update would have to write it. So its cost is that of the tasks seen in these minutes: it grows if a few tasks of each minute run for very long.
 *
 * @param minutes a condition on `minute`.
 */
function rowsWithWorkers(minutes: SQL): SQL {
  return sql`select task.* from (
      select minute from ${celeryTaskMinute} where status in ('RECEIVED', 'STARTED') and ${minutes} union select minute from ${celeryTaskMinuteDirty} where ${minutes}
    ) running
    cross join lateral (
      select * from ${celeryTask} where seen_at >= running.minute and seen_at < running.minute + interval '1 minute' and status in ('RECEIVED', 'STARTED')
      offset 0
    ) task`;
}

/**
 * The tasks that a worker has, RECEIVED or STARTED, as a query for rows of `celery_task`: those seen in the minute of `from` and later, up to and
 * with that of `to`. Both are texts.
 */
export function runningRows(from: string, to: string | undefined): SQL {
  return rowsWithWorkers(
    sql`minute > ${from}::timestamptz - interval '1 minute' and minute <= ${to === undefined ? sql`'infinity'` : sql`${to}`}::timestamptz`,
  );
}

/** For clocks of senders that are ahead of those of workers. */
const CLOCKS_SECONDS = 300;

/**
 * Every lost task, as a query for rows of `celery_task`. Leaves out the minutes since the last worker was gone, in which most of the running tasks are.
 *
 * A worker is forgotten after `POSTGRES_WORKER_EXPIRY_DAYS`. Its tasks are then no longer found.
 */
export function lostRows(options: LostTasksOptions = {}): SQL {
  const last = sql`(
    select max(case when ${isSilent(options)} then greatest(heard_at, observed_at, online_at) else online_at end) + ${CLOCKS_SECONDS}::float8 * interval '1 second'
    from ${celeryWorker} worker where heard_at is not null
  )`;
  return sql`${rowsWithWorkers(sql`minute <= ${last}`)} where ${isLost(options)}`;
}

/** A task is stuck if it has run for this long, and so many times as long as 99 % of the finished tasks of its name, of which there must be enough. */
export const STUCK = { times: 3, atLeastSeconds: 60, samples: 20, days: 7 };

/** A row of `usualRuntimesStatement`. */
export interface UsualRuntime {
  readonly name: string;
  /** As in `celery_task_minute`; NULL if nothing is known. */
  readonly histogram: string | null;
}

/** How long tasks of these names lately took, as a query: by days, and by hours and minutes for what is not in one yet. */
export function usualRuntimesStatement(names: readonly string[]): SQL {
  const since = sql`now() - ${STUCK.days}::int * interval '1 day'`;
  return sql`select name, histogram from (
      select value collate "C" as name from json_array_elements_text(${JSON.stringify(names)}::json)
    ) wanted cross join (
      select coalesce(max(hours_before), '-infinity') as hours_before, coalesce(max(days_before), '-infinity') as days_before
      from ${celeryRollup} where name = ${getTableName(celeryTaskMinute)}
    ) counted cross join lateral (
      select sum(runtime_hist)::text as histogram from (
        ${ofPeriods(DAY, since, sql`days_before`)}
        union all ${ofPeriods(HOUR, sql`greatest(${since}, days_before)`, sql`hours_before`)}
        union all select runtime_hist from ${celeryTaskMinute} period where period.name = wanted.name and minute >= greatest(${since}, hours_before)
      ) lately
    ) summed`;
}

function ofPeriods(width: number, from: SQL, until: SQL): SQL {
  return sql`select runtime_hist from ${celeryTaskPeriod} period where width = ${width}::smallint and period.name = wanted.name and at >= ${from} and at < ${until}`;
}

/** After how many seconds a running task is stuck; undefined if too few tasks have finished to know. */
export function stuckAfterSeconds(packed: UsualRuntime["histogram"]): number | undefined {
  const histogram = unpackHistogram(packed);
  const usually = countOf(histogram) < STUCK.samples ? undefined : percentile(histogram, 0.99);
  return usually === undefined ? undefined : Math.max(STUCK.atLeastSeconds, STUCK.times * usually);
}
