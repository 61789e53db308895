/** Statistics of tasks by time, name, queue and status, from the roll-up. */
import { type SQL, sql } from "drizzle-orm";
import { type Drizzle, query } from "../tables/database.ts";
import { celeryTaskMinute } from "../tables/schema.ts";
import { BUCKETS, countOf, percentile } from "./histogram.ts";

const GROUPS = ["name", "queue", "status"] as const;
export type StatisticsGroup = (typeof GROUPS)[number];

export interface StatisticsOptions {
  /** Both are instants, as PostgreSQL reads them. The minute of `from` is included. */
  readonly from: string;
  readonly to: string;
  /** The width of the steps, in UTC; a number is minutes. Without it, the result is of the whole time. */
  readonly step?: "minute" | "hour" | "day" | number | undefined;
  /** Separate figures for each. */
  readonly by?: readonly StatisticsGroup[];
  /** Only these. '' stands for an unknown name or queue. */
  readonly names?: readonly string[] | undefined;
  readonly queues?: readonly string[] | undefined;
  readonly statuses?: readonly string[] | undefined;
  readonly limit?: number;
}

export interface Durations {
  /** How many tasks have one. */
  readonly count: number;
  /** Seconds, as are all below. */
  readonly sum: number;
  readonly p50: number | undefined;
  readonly p95: number | undefined;
  readonly p99: number | undefined;
}

export interface Statistics {
  /** The beginning of the step, as text; undefined without steps. */
  readonly at: string | undefined;
  readonly name?: string;
  readonly queue?: string;
  readonly status?: string;
  /** Tasks that were first seen in this time. */
  readonly n: number;
  readonly runtime: Durations;
  readonly wait: Durations;
  /** The longest run, in seconds. */
  readonly slowest: number | undefined;
  readonly slowestId: string | undefined;
  readonly lastFailedId: string | undefined;
}

/**
 * Counts and percentiles of tasks by when they were first seen. In the order of time; within a step, or without steps, the most frequent group first.
 *
 * @throws {UnavailableError} if the database is unavailable.
 */
export async function readStatistics(database: Drizzle, options: StatisticsOptions): Promise<readonly Statistics[]> {
  return (await query<StatisticsRow>(database, statisticsStatement(options))).map(toStatistics);
}

/** A row of `statisticsStatement`. */
export function toStatistics(row: StatisticsRow): Statistics {
  return {
    at: row.at ?? undefined,
    ...Object.fromEntries(GROUPS.flatMap((group) => (row[group] === undefined ? [] : [[group, row[group]]]))),
    n: Number(row.n),
    runtime: durationsOf(row.runtime_hist, row.runtime_sum),
    wait: durationsOf(row.wait_hist, row.wait_sum),
    slowest: row.runtime_max ?? undefined,
    slowestId: row.slowest_id ?? undefined,
    lastFailedId: row.last_failed_id ?? undefined,
  };
}

export interface StatisticsRow {
  readonly at: string | null;
  readonly name?: string;
  readonly queue?: string;
  readonly status?: string;
  readonly n: number | string;
  readonly runtime_sum: number;
  readonly runtime_hist: readonly number[];
  readonly wait_sum: number;
  readonly wait_hist: readonly number[];
  readonly runtime_max: number | null;
  readonly slowest_id: string | null;
  readonly last_failed_id: string | null;
}

function durationsOf(histogram: readonly number[], sum: number): Durations {
  return {
    count: countOf(histogram),
    sum,
    p50: percentile(histogram, 0.5),
    p95: percentile(histogram, 0.95),
    p99: percentile(histogram, 0.99),
  };
}

export function statisticsStatement({ from, to, step, by = [], names, queues, statuses, limit = 10_000 }: StatisticsOptions): SQL {
  const at = step === undefined ? sql`null::text` : sql`${beginningOfStep(step)}::text`;
  const groups = GROUPS.filter((group) => by.includes(group));
  const columns = groups.map((group) => sql`, ${sql.identifier(group)}`);
  return sql`select ${at} as at ${sql.join(columns)}, sum(n)::float8 as n,
      sum(runtime_sum) as runtime_sum, ${sumOfHistograms("runtime_hist")} as runtime_hist,
      sum(wait_sum) as wait_sum, ${sumOfHistograms("wait_hist")} as wait_hist,
      max(runtime_max) as runtime_max, ${idOfGreatest("slowest_id", "runtime_max")} as slowest_id, ${idOfGreatest("last_failed_id", "minute")} as last_failed_id
    from ${celeryTaskMinute}
    where minute >= date_trunc('minute', ${from}::timestamptz, 'UTC') and minute < ${to}::timestamptz
      ${isOneOf("name", names)} ${isOneOf("queue", queues)} ${isOneOf("status", statuses)}
    group by 1 ${sql.join(columns)}
    order by 1, n desc ${sql.join(columns)}
    limit ${limit}::int`;
}

/** Of the row's minute. PostgreSQL knows `date_bin` only from 14 on. */
function beginningOfStep(step: "minute" | "hour" | "day" | number): SQL {
  return typeof step === "number"
    ? sql`to_timestamp(floor(date_part('epoch', minute) / (${step}::int * 60)) * (${step}::int * 60))`
    : sql`date_trunc(${step}::text, minute, 'UTC')`;
}

function isOneOf(column: StatisticsGroup, values: readonly string[] | undefined): SQL {
  if (values === undefined) return sql``;
  return sql`and ${sql.identifier(column)} in (select value collate "C" from json_array_elements_text(${JSON.stringify(values)}::json))`;
}

/** An element that an array lacks is NULL, which a sum ignores. */
export function sumOfHistograms(column: string): SQL {
  const sums = Array.from({ length: BUCKETS }, (_, index) => `coalesce(sum(${column}[${index + 1}]), 0)::float8`);
  return sql.raw(`array[${sums.join(", ")}]`);
}

function idOfGreatest(id: string, order: string): SQL {
  return sql.raw(`(array_agg(${id} order by ${order} desc, ${id}) filter (where ${id} is not null))[1]`);
}
