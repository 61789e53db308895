/** Whether a worker is alive, and which tasks it took with it. */
import { type SQL, getTableName, sql } from "drizzle-orm";
import { countOf, percentile, unpackHistogram } from "../rollups/histogram.ts";
import { celeryQueueMinute, celeryRollup, celeryTask, celeryTaskMinute, celeryTaskMinuteDirty, celeryWorker } from "../tables/schema.ts";

/** `up`: it was heard lately. `lost`: it fell silent without a word. `offline`: it said that it stops. */
export type WorkerState = "up" | "lost" | "offline";

/** Default of `lostAfterSeconds`. A worker sends a heartbeat every two seconds. */
export const WORKER_LOST_AFTER_SECONDS = 30;

/** The columns of `celery_worker` on which the state depends. Instants are seconds since the epoch. */
export interface WorkerSigns {
  readonly lastEventType: string | undefined;
  readonly heardAt: number | undefined;
  readonly observedAt: number | undefined;
}

/** @param until how far silence means something, in seconds since the epoch: `listenedUntil`, not the time of now. */
export function workerState(
  { lastEventType, heardAt = 0, observedAt = 0 }: WorkerSigns,
  until: number,
  lostAfterSeconds: number = WORKER_LOST_AFTER_SECONDS,
): WorkerState {
  if (lastEventType === "worker-offline") return "offline";
  return until - Math.max(heardAt, observedAt) > lostAfterSeconds ? "lost" : "up";
}

/** How long an outage of ours is more likely than the end of all workers. */
const OUTAGE_SECONDS = 300;
/** Workers that fell silent within this time did so together. A worker sends a heartbeat every two seconds. */
const TOGETHER_SECONDS = 10;
/** A worker that lives has answered a monitor within this time: the default interval of asking and that of observing queues, and some more. */
const ANSWERED_SECONDS = 90;
/** A row whose events are older than this when it is written came late. */
const LATE_SECONDS = 15;
const LATEST_TASKS = 20;
/** Lets the planner use the key: where it must not read tables as a whole, that would distort every cost. */
const EVERY_WORKER = sql`hostname >= ''`;

/**
 * The instant until which we would have heard a worker that is alive, as an expression. A worker that was last heard long before it is silent. It is not
 * the time of now: while we do not listen, or lag, every worker would look silent. It is the latest of what was stored:
 *
 * - the latest sign of any worker;
 * - if that is old, the latest observation of the monitor, which comes through the same broker and the same queue;
 * - without a monitor in the last five minutes, the latest roll-up: then the processor ran. This does not count while it writes tasks late.
 *
 * If several workers fell silent at the same time, only the first counts for five minutes, because an outage is more likely: unless the monitor, which
 * asks workers itself, goes on observing queues and got no answer. NULL if nothing is known.
 */
export function listenedUntil(): SQL {
  return sql`(
    select greatest(heard, case
      when heard > ${ago(OUTAGE_SECONDS)} and together > 1 and observed > answered + ${ANSWERED_SECONDS}::float8 * interval '1 second' is not true then heard
      when observed > ${ago(OUTAGE_SECONDS)} then observed
      when not coalesce(is_late, false) then (select rolled_up_at from ${celeryRollup} where name = ${getTableName(celeryTaskMinute)})
    end)
    from (
      select heard, (
          select count(*) from ${celeryWorker}
          where ${EVERY_WORKER} and greatest(heard_at, observed_at) > heard - ${TOGETHER_SECONDS}::float8 * interval '1 second' and last_event_type is distinct from 'worker-offline'
        ) as together,
        answered,
        (select max(observed_at) from ${celeryQueueMinute} where minute > ${ago(2 * OUTAGE_SECONDS)}) as observed,
        (
          select bool_and(updated_at - last_event_at > ${LATE_SECONDS}::float8 * interval '1 second')
          from (select updated_at, last_event_at from ${celeryTask} order by seen_at desc, task_id desc limit ${LATEST_TASKS}::int) latest
          where updated_at > ${ago(WORKER_LOST_AFTER_SECONDS)}
        ) as is_late
      from (
        select least(max(greatest(heard_at, observed_at)), now()) as heard, max(observed_at) as answered from ${celeryWorker} where ${EVERY_WORKER}
      ) signs
    ) known
  )`;
}

function ago(seconds: number): SQL {
  return sql`now() - ${seconds}::float8 * interval '1 second'`;
}

export interface LostTasksOptions {
  readonly lostAfterSeconds?: number;
  /** The instant up to which silence means something, if it is known already: planning the expression takes longer than reading a list. */
  readonly until?: SQL;
}

/** Whether a worker (`worker`, a row of `celery_worker`) is silent, as a condition. */
export function isSilent({ lostAfterSeconds = WORKER_LOST_AFTER_SECONDS, until = listenedUntil() }: LostTasksOptions = {}): SQL {
  return sql`greatest(worker.heard_at, worker.observed_at) < ${until} - ${lostAfterSeconds}::float8 * interval '1 second'`;
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

/** Of a name, only the latest so many minutes and queues are looked at. */
const MOST_CELLS = 1_000;

/** A row of `usualRuntimesStatement`. */
export interface UsualRuntime {
  readonly name: string;
  /** As in `celery_task_minute`; NULL if nothing is known. */
  readonly histogram: string | null;
}

/** How long tasks of these names lately took, as a query. */
export function usualRuntimesStatement(names: readonly string[]): SQL {
  return sql`select name, histogram from (
      select value collate "C" as name from json_array_elements_text(${JSON.stringify(names)}::json)
    ) wanted cross join lateral (
      select sum(runtime_hist)::text as histogram from (
        select runtime_hist from ${celeryTaskMinute} counted
        where counted.name = wanted.name and minute >= now() - ${STUCK.days}::int * interval '1 day' and runtime_hist <> 0
        order by minute desc limit ${MOST_CELLS}::int
      ) latest
    ) summed`;
}

/** After how many seconds a running task is stuck; undefined if too few tasks have finished to know. */
export function stuckAfterSeconds(packed: UsualRuntime["histogram"]): number | undefined {
  const histogram = unpackHistogram(packed);
  const usually = countOf(histogram) < STUCK.samples ? undefined : percentile(histogram, 0.99);
  return usually === undefined ? undefined : Math.max(STUCK.atLeastSeconds, STUCK.times * usually);
}
