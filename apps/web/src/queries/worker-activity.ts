/** What workers did lately. No table counts tasks by worker, so they are counted in samples of the tasks of each minute. */
import { celeryTaskPeriod, type Reader } from "@celery-metrics-exporter/db";
import { sql, type SQL } from "drizzle-orm";
import { z } from "zod";
import { TASK, isoOf } from "./columns.ts";

const count = z.number().int();

export const WorkerActivity = z
  .object({
    name: z.string().describe("`name@host`."),
    tasks: z
      .array(count)
      .describe("Tasks that it took, in each step, by when they were first seen. Estimated where a minute has more than 200 tasks."),
    failed: count.describe("Tasks that failed on it since `failed_since`."),
    failures: z.array(count).optional().describe("Of `tasks`, those that failed. Only with the parameter `name`, like all below."),
    runtime_p95: z.number().nullable().optional().describe("Seconds."),
    types: z
      .array(
        z.object({
          name: z.string(),
          count,
          seconds: z.number().describe("Sum of their run times."),
          p95: z.number().nullable(),
          estimated: z
            .boolean()
            .describe("Whether some of them were in minutes with more than 200 tasks, so that `count` and `seconds` are estimates."),
        }),
      )
      .optional()
      .describe("What it ran, by time spent. At most 20."),
  })
  .meta({ id: "WorkerActivity" });
export type WorkerActivity = z.output<typeof WorkerActivity>;

export interface Activity {
  readonly failedSince: string;
  readonly items: WorkerActivity[];
}

export interface ActivityOptions {
  /** The beginning of the first step. */
  readonly from: Date;
  readonly stepMinutes: number;
  readonly steps: number;
  readonly name: string | undefined;
}

/** Tasks of one minute that are looked at. */
const SAMPLE = 200;
const MAX_FAILURES = 20_000;
const MAX_WORKERS = 1_000;
const MAX_TYPES = 20;

interface Row {
  readonly worker: string;
  /** Null for all steps together, and for the tasks of one name. */
  readonly step: number | null;
  readonly tasks: number;
  // The others only for one worker.
  readonly is_type: boolean;
  readonly name: string | null;
  readonly failures: number;
  readonly seconds: number;
  readonly p95: number | null;
  readonly estimated: boolean;
}

interface Failed {
  readonly worker: string;
  readonly failed: number;
  readonly since: string;
}

/** The most active first. */
export async function readWorkerActivity(reader: Reader, options: ActivityOptions): Promise<Activity> {
  const [rows, failed] = await Promise.all([reader.read<Row>(sampleStatement(options)), reader.read<Failed>(FAILED)]);
  const byWorker = new Map<string, Row[]>();
  for (const row of rows) {
    const ofWorker = byWorker.get(row.worker);
    if (ofWorker === undefined) byWorker.set(row.worker, [row]);
    else ofWorker.push(row);
  }
  const failures = new Map(failed.map((each) => [each.worker, each.failed]));
  const names = options.name === undefined ? new Set([...byWorker.keys(), ...failures.keys()]) : [options.name];
  const items = [...names].map((name) => toActivity(name, byWorker.get(name) ?? [], failures.get(name) ?? 0, options));
  return {
    failedSince: failed[0]?.since ?? new Date(Date.now() - 86_400_000).toISOString(),
    items: items.sort((one, other) => sum(other) - sum(one) || (one.name < other.name ? -1 : 1)).slice(0, MAX_WORKERS),
  };
}

function sum({ tasks }: WorkerActivity): number {
  return tasks.reduce((total, each) => total + each, 0);
}

function toActivity(name: string, rows: readonly Row[], failed: number, { steps, name: only }: ActivityOptions): WorkerActivity {
  const byStep = new Map(rows.filter(({ step }) => step !== null).map((row) => [row.step, row]));
  const inSteps = (value: (row: Row) => number): number[] =>
    Array.from({ length: steps }, (_, step) => {
      const row = byStep.get(step);
      return row === undefined ? 0 : value(row);
    });
  const activity = { name, tasks: inSteps(({ tasks }) => tasks), failed };
  if (only === undefined) return activity;
  return {
    ...activity,
    failures: inSteps((row) => row.failures),
    runtime_p95: rows.find(({ step, is_type }) => step === null && !is_type)?.p95 ?? null,
    types: rows
      .flatMap((row) =>
        row.is_type ? [{ name: row.name ?? "", count: row.tasks, seconds: row.seconds, p95: row.p95, estimated: row.estimated }] : [],
      )
      .sort((one, other) => other.seconds - one.seconds || other.count - one.count)
      .slice(0, MAX_TYPES),
  };
}

/** A task of a sample counts for as many as its minute has, by the roll-up, for each of the sample. */
function sampleStatement({ from, stepMinutes, name }: ActivityOptions): SQL {
  const begin = sql`${from.toISOString()}::timestamptz`;
  const groups = sql.raw(name === undefined ? "(worker, step)" : "(worker, step), (worker, name), (worker)");
  // Percentiles need all tasks in order.
  const more =
    name === undefined
      ? sql``
      : sql`, grouping(name) = 0 as is_type, name, round(coalesce(sum(weight) filter (where status = 'FAILURE'), 0))::float8 as failures,
           coalesce(sum(weight * duration), 0) as seconds, bool_or(weight > 1) as estimated, percentile_cont(0.95) within group (order by duration) as p95`;
  return sql`with sampled as materialized (
      select minute, task.* from generate_series(${begin}, now(), interval '1 minute') minute
      cross join lateral (
        select worker, name, status, duration from ${TASK}
        where seen_at >= minute and seen_at < minute + interval '1 minute' order by seen_at desc, task_id desc limit ${SAMPLE}::int
      ) task
    ), weighed as (
      select minute, case when count(*) < ${SAMPLE}::int then 1 else greatest(1, (
          select sum(n) from ${celeryTaskPeriod} where width = 1::smallint and at = minute and name = '(all)' and queue = '(all)'
        )::float8 / count(*)) end as weight
      from sampled group by minute
    ), tasks as (
      select sampled.*, weight, floor(date_part('epoch', minute - ${begin}) / 60 / ${stepMinutes}::int)::int as step
      from sampled join weighed using (minute) where worker is not null ${name === undefined ? sql`` : sql`and worker = ${name}`}
    )
    select worker, step, round(sum(weight))::float8 as tasks ${more}
    from tasks group by grouping sets (${groups})`;
}

const FAILED = sql`select worker, count(*)::int as failed,
    ${isoOf(sql`case when sum(count(*)) over () < ${MAX_FAILURES}::int then now() - interval '1 day' else min(min(seen_at)) over () end`)} as since
  from (
    select worker, seen_at from ${TASK} where problem = 'FAILURE' and seen_at >= now() - interval '1 day'
    order by seen_at desc, task_id desc limit ${MAX_FAILURES}::int
  ) failure
  group by worker`;
