/** Statistics of tasks by time, name, queue and status, from the roll-ups: days and hours where they fit, minutes for the rest. */
import { type SQL, getTableName, sql } from "drizzle-orm";
import { celeryRollup, celeryTaskMinute, celeryTaskPeriod } from "../tables/schema.ts";
import { countOf, percentile, unpackHistogram } from "./histogram.ts";
import { VALUES, idIn, sumsOf } from "./counts.ts";
import { ALL, DAY, HOUR } from "./roll-up.ts";

const GROUPS = ["name", "queue", "status"] as const;
export type StatisticsGroup = (typeof GROUPS)[number];

export interface StatisticsOptions {
  /** The minute of `from` is included. If minutes that old have been deleted, its hour is, and that of `to`. */
  readonly from: Date;
  readonly to: Date;
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
  /** The beginning of the step, in ISO 8601 with milliseconds; undefined without steps. */
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

export interface StatisticsAnswer {
  /** When the counts were last brought up to date, as text; undefined if never. */
  readonly rolledUpAt: string | undefined;
  readonly items: readonly Statistics[];
}

/**
 * Counts and percentiles of tasks by when they were first seen. In the order of time; within a step, or without steps, the most frequent group first.
 *
 * @param read runs a statement. Its errors are those of this function.
 */
export async function readStatistics(
  read: <R>(statement: SQL) => Promise<readonly R[]>,
  options: StatisticsOptions,
): Promise<StatisticsAnswer> {
  const [row] = await read<Record<keyof Available | "at", string | null>>(availableStatement());
  const available = {
    hoursBefore: timeOf(row?.hoursBefore),
    daysBefore: timeOf(row?.daysBefore),
    minutesSince: timeOf(row?.minutesSince),
  };
  const items = await read<StatisticsRow>(statisticsStatement(options, segmentsOf(options, available)));
  return { rolledUpAt: row?.at ?? undefined, items: items.map(toStatistics) };
}

function timeOf(text: string | null | undefined): number | undefined {
  return text === null || text === undefined ? undefined : Date.parse(text);
}

/** What there is. Instants are in milliseconds. */
interface Available {
  /** Hours before this one are counted. */
  readonly hoursBefore: number | undefined;
  readonly daysBefore: number | undefined;
  /** Earlier minutes have been deleted. */
  readonly minutesSince: number | undefined;
}

function iso(column: string): SQL {
  return sql.raw(`to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`);
}

function availableStatement(): SQL {
  return sql`select ${iso("rolled_up_at")} as at, ${iso("hours_before")} as "hoursBefore", ${iso("days_before")} as "daysBefore", ${iso("minutes_since")} as "minutesSince"
    from ${celeryRollup} where name = ${getTableName(celeryTaskMinute)}`;
}

/** A part of the range, and the width of the counts to read for it, in minutes. Instants are in milliseconds; `to` is excluded. */
export interface Segment {
  readonly width: number;
  readonly from: number;
  readonly to: number;
}

const MINUTE_MS = 60_000;
const HOUR_MS = HOUR * MINUTE_MS;
const DAY_MS = DAY * MINUTE_MS;
const STEPS = { minute: 1, hour: HOUR, day: DAY };

const floor = (instant: number, width: number): number => Math.floor(instant / width) * width;
const ceil = (instant: number, width: number): number => Math.ceil(instant / width) * width;

function hoursOf(from: number, to: number): Segment {
  return { width: HOUR, from, to };
}

/** Covers the range with the widest counts that there are and that steps allow. */
export function segmentsOf(
  { from, to, step }: Pick<StatisticsOptions, "from" | "to" | "step">,
  { hoursBefore = -Infinity, daysBefore = -Infinity, minutesSince = -Infinity }: Available,
): Segment[] {
  const minutes = typeof step === "string" ? STEPS[step] : (step ?? DAY);
  const begin = floor(from.getTime(), MINUTE_MS);
  const end = to.getTime();
  // Where there are no minutes any more, hours have to do.
  const hoursUntil = Math.min(
    (end < minutesSince ? ceil : floor)(end, HOUR_MS),
    minutes % HOUR === 0 ? hoursBefore : minutesSince,
    hoursBefore,
  );
  const hoursFrom = begin < minutesSince ? floor(begin, HOUR_MS) : ceil(begin, HOUR_MS);
  if (hoursFrom >= hoursUntil) return [{ width: 1, from: begin, to: end }];
  const daysFrom = ceil(hoursFrom, DAY_MS);
  const daysUntil = minutes % DAY === 0 ? Math.min(floor(hoursUntil, DAY_MS), daysBefore) : -Infinity;
  return [
    { width: 1, from: begin, to: hoursFrom },
    ...(daysFrom < daysUntil
      ? [hoursOf(hoursFrom, daysFrom), { width: DAY, from: daysFrom, to: daysUntil }, hoursOf(daysUntil, hoursUntil)]
      : [hoursOf(hoursFrom, hoursUntil)]),
    { width: 1, from: hoursUntil, to: end },
  ].filter((segment) => segment.from < segment.to);
}

function toStatistics(row: StatisticsRow): Statistics {
  const { name, queue, status } = row;
  return {
    at: row.at ?? undefined,
    ...(name !== undefined && { name }),
    ...(queue !== undefined && { queue }),
    ...(status !== undefined && { status }),
    n: Number(row.n),
    runtime: durationsOf(unpackHistogram(row.runtime_hist), row.runtime_sum),
    wait: durationsOf(unpackHistogram(row.wait_hist), row.wait_sum),
    slowest: row.runtime_max ?? undefined,
    slowestId: row.slowest_id ?? undefined,
    lastFailedId: row.last_failed_id ?? undefined,
  };
}

interface StatisticsRow {
  readonly at: string | null;
  readonly name?: string;
  readonly queue?: string;
  readonly status?: string;
  readonly n: number | string;
  readonly runtime_sum: number;
  readonly runtime_hist: string;
  readonly wait_sum: number;
  readonly wait_hist: string;
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

function statisticsStatement(
  { step, by = [], names, queues, statuses, limit = 10_000 }: StatisticsOptions,
  segments: readonly Segment[],
): SQL {
  const beginning = step === undefined ? sql`null::timestamptz` : beginningOfStep(step);
  const groups = GROUPS.filter((group) => by.includes(group));
  const columns = groups.map((group) => sql`, ${sql.identifier(group)}`);
  const perName = by.includes("name") || names !== undefined;
  const perQueue = by.includes("queue") || queues !== undefined;
  const filters = sql`${isOneOf("name", names)} ${isOneOf("queue", queues)} ${isOneOf("status", statuses)}`;
  const all = sql`and name ${sql.raw(perName ? "<>" : "=")} ${ALL} ${perName ? sql`` : sql`and queue ${sql.raw(perQueue ? "<>" : "=")} ${ALL}`}`;
  const parts = segments.map(({ width, from, to }) => {
    const [start, end] = [new Date(from).toISOString(), new Date(to).toISOString()];
    return width === 1 && perName
      ? sql`select minute as at, name, queue, status, ${COUNTS} from ${celeryTaskMinute} where minute >= ${start} and minute < ${end} ${filters}`
      : sql`select at, name, queue, status, ${COUNTS} from ${celeryTaskPeriod} where width = ${width}::smallint and at >= ${start} and at < ${end} ${all} ${filters}`;
  });
  return sql`select to_char(step at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at ${sql.join(columns)}, n::float8 as n, runtime_sum, runtime_hist::text as runtime_hist, wait_sum, wait_hist::text as wait_hist, runtime_max,
      ${sql.raw(idIn("slowest"))} as slowest_id, ${sql.raw(idIn("last_failed"))} as last_failed_id
    from (
      select ${beginning} as step ${sql.join(columns)}, ${sql.raw(sumsOf("counts.at"))} from (${sql.join(parts, sql` union all `)}) counts
      group by 1 ${sql.join(columns)}
    ) summed
    order by step, summed.n desc ${sql.join(columns)}
    limit ${limit}::int`;
}

const COUNTS = sql.raw(VALUES.join(", "));

/** PostgreSQL knows `date_bin` only from 14 on. */
function beginningOfStep(step: "minute" | "hour" | "day" | number): SQL {
  return typeof step === "number"
    ? sql`to_timestamp(floor(date_part('epoch', counts.at) / (${step}::int * 60)) * (${step}::int * 60))`
    : sql`date_trunc(${step}::text, counts.at, 'UTC')`;
}

function isOneOf(column: StatisticsGroup, values: readonly string[] | undefined): SQL {
  if (values === undefined) return sql``;
  // Values that the planner sees, so that it uses the index on the name.
  return values.length === 0 ? sql`and false` : sql`and ${sql.identifier(column)} in ${values}`;
}
