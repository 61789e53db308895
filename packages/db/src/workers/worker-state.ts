/** Whether a worker is alive, and which tasks it took with it. */
import { type SQL, sql } from "drizzle-orm";
import { type Drizzle, query } from "../tables/database.ts";
import { BOUNDS_SECONDS } from "../rollups/histogram.ts";
import { celeryTask, celeryTaskMinute, celeryTaskMinuteDirty, celeryWorker } from "../tables/schema.ts";

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

/**
 * @param now seconds since the epoch. While events are processed late, subtract that lag; otherwise every worker looks lost.
 */
export function workerState(
  { lastEventType, heardAt = 0, observedAt = 0 }: WorkerSigns,
  now: number,
  lostAfterSeconds: number = WORKER_LOST_AFTER_SECONDS,
): WorkerState {
  if (lastEventType === "worker-offline") return "offline";
  return now - Math.max(heardAt, observedAt) > lostAfterSeconds ? "lost" : "up";
}

export interface LostTasksOptions {
  readonly lostAfterSeconds?: number;
  /** How late events are processed at the moment, in seconds. */
  readonly lagSeconds?: number;
}

/**
 * A condition on `celery_task`, for a query that has it as `task`: the task is unfinished, and its worker is silent or has restarted since it last
 * reported the task. Celery's own status stays as it is. A worker without heartbeats is never found lost.
 */
export function isLost({ lostAfterSeconds = WORKER_LOST_AFTER_SECONDS, lagSeconds = 0 }: LostTasksOptions = {}): SQL {
  const longest = lostAfterSeconds + lagSeconds;
  return sql`task.status in ('RECEIVED', 'STARTED') and exists (
    select from ${celeryWorker} worker
    where worker.hostname = task.worker collate "C" and worker.heard_at is not null
      and (greatest(worker.heard_at, worker.observed_at) < now() - ${longest}::float8 * interval '1 second' or worker.online_at > task.worker_at)
  )`;
}

interface UnfinishedRange {
  /** Both are instants, as PostgreSQL reads them. `from` is included. */
  readonly from?: string | undefined;
  readonly to?: string | undefined;
}

/**
 * The minutes (`minute`) in which tasks that a worker has were seen, as a query: those in which the roll-up counts some, and those that it has not
 * counted since they changed. There are few, because tasks finish. No index of `celery_task` could tell, because every update would have to write it.
 */
export function minutesWithRunningTasks({ from = "-infinity", to = "infinity" }: UnfinishedRange = {}): SQL {
  const first = sql`date_trunc('minute', ${from}::timestamptz, 'UTC')`;
  return sql`select minute from ${celeryTaskMinute} where status in ('RECEIVED', 'STARTED') and minute >= ${first} and minute < ${to}::timestamptz
    union select minute from ${celeryTaskMinuteDirty} where minute >= ${first} and minute < ${to}::timestamptz`;
}

export interface RunningTasksPage extends UnfinishedRange {
  readonly limit?: number;
  /** The last task of the page before. */
  readonly after?: { readonly seenAt: string; readonly taskId: string } | undefined;
}

export interface LostTask {
  readonly task_id: string;
  /** Instants are text, with microseconds. */
  readonly seen_at: string;
  readonly name: string | null;
  readonly status: string;
  readonly worker: string;
  /** When the worker last reported the task. */
  readonly worker_at: string;
  /** `silent`: the worker is. `restarted`: it is back, and does not know the task. */
  readonly reason: "silent" | "restarted";
}

/**
 * Unfinished tasks whose worker is gone, the newest first. Reads only minutes in which tasks are running (`minutesWithRunningTasks`), by the index on
 * `seen_at`. So its cost is that of the tasks seen in these minutes: it grows if a few tasks of each minute run for very long.
 *
 * A worker is forgotten after `POSTGRES_WORKER_EXPIRY_DAYS`. Its tasks are then no longer found.
 *
 * @throws {UnavailableError} if the database is unavailable.
 */
export async function lostTasks(database: Drizzle, options: LostTasksOptions & RunningTasksPage = {}): Promise<readonly LostTask[]> {
  return query<LostTask>(database, lostTasksStatement(options));
}

export function lostTasksStatement(options: LostTasksOptions & RunningTasksPage = {}): SQL {
  return sql`select task.task_id, task.seen_at::text, task.name, task.status, task.worker, task.worker_at::text,
      case when worker.online_at > task.worker_at then 'restarted' else 'silent' end as reason
    from ${runningTasks(options)} task join ${celeryWorker} worker on worker.hostname = task.worker collate "C"
    where ${isLost(options)}
    ${pageOf(options)}`;
}

/** Rows of `celery_task` that a worker has, as a lateral subquery per minute. */
function runningTasks(range: UnfinishedRange): SQL {
  const { from = "-infinity", to = "infinity" } = range;
  return sql`(${minutesWithRunningTasks(range)}) running cross join lateral (
    select * from ${celeryTask}
    where seen_at >= greatest(running.minute, ${from}::timestamptz) and seen_at < least(running.minute + interval '1 minute', ${to}::timestamptz)
      and status in ('RECEIVED', 'STARTED')
    offset 0
  )`;
}

function pageOf({ limit = 50, after }: RunningTasksPage): SQL {
  const rest =
    after === undefined ? sql`` : sql`and (task.seen_at, task.task_id) < (${after.seenAt}::timestamptz, ${after.taskId} collate "C")`;
  return sql`${rest} order by task.seen_at desc, task.task_id desc limit ${limit}::int`;
}

// Tasks that run far longer than usual.

export interface StuckTasksOptions extends RunningTasksPage {
  /** How many times as long as 99 % of the finished tasks of the same name. */
  readonly times?: number;
  /** A task that has run for less is never stuck. In seconds. */
  readonly atLeastSeconds?: number;
  /** How many tasks of the name must have finished in the days before, to know what is usual. */
  readonly samples?: number;
  readonly days?: number;
}

export interface StuckTask {
  readonly task_id: string;
  readonly seen_at: string;
  readonly name: string;
  readonly worker: string;
  readonly run_started_at: string;
  /** Seconds since then, by the database's clock. */
  readonly running_for: number;
  /** 99 % of the tasks of this name ran for less. In seconds, at most 60 % too large. */
  readonly usually: number;
}

/**
 * Started tasks that run for several times as long as tasks of their name usually do, the newest first. What is usual comes from the roll-ups, so a name
 * beyond the most frequent ones of its minute is never found.
 *
 * @throws {UnavailableError} if the database is unavailable.
 */
export async function stuckTasks(database: Drizzle, options: StuckTasksOptions = {}): Promise<readonly StuckTask[]> {
  return query<StuckTask>(database, stuckTasksStatement(options));
}

function stuckTasksStatement(options: StuckTasksOptions = {}): SQL {
  const { times = 3, atLeastSeconds = 60, samples = 20, days = 7 } = options;
  return sql`with started as materialized (
      select task.task_id, task.seen_at, task.name, task.worker, task.run_started_at, date_part('epoch', now() - task.run_started_at) as running_for
      from ${runningTasks(options)} task
      where task.status = 'STARTED' and task.run_started_at < now() - ${atLeastSeconds}::float8 * interval '1 second'
    ), counts as (
      select name, bucket, sum(tasks) as n
      from (select distinct name from started) names join ${celeryTaskMinute} using (name) cross join lateral unnest(runtime_hist) with ordinality histogram(tasks, bucket)
      where minute >= now() - ${days}::int * interval '1 day'
      group by name, bucket
    ), sums as (
      select name, bucket, sum(n) over (partition by name order by bucket) as up_to, sum(n) over (partition by name) as total from counts
    ), usual as (
      select name, (${sql.raw(`'{${BOUNDS_SECONDS.join(",")}}'::float8[]`)})[min(bucket) filter (where up_to >= 0.99 * total)] as usually
      from sums where total >= ${samples}::int group by name
    )
    select task_id, seen_at::text, name, worker, run_started_at::text, running_for, usually
    from started task join usual using (name)
    where running_for > ${times}::float8 * usually
    ${pageOf(options)}`;
}
