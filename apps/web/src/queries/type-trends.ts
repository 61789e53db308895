/** How often each task type ran over time, and whether it runs longer than a week before. */
import { celeryTaskMinute, celeryTaskPeriod, type Reader } from "@celery-metrics-exporter/db";
import { sql } from "drizzle-orm";
import { z } from "zod";
import { isoOf } from "./columns.ts";
import { periodsOf, stepOf } from "./periods.ts";

const count = z.number().int();
const mean = z.number().nullable();

export const TypeTrend = z
  .object({
    name: z.string().describe("Empty if it is not known; `(other)` for rare names."),
    counts: z.array(count).describe("Tasks in each step, by when they were first seen."),
    succeeded: count,
    failed: count,
    mean: mean.describe("Seconds that those that succeeded ran on average; null if there are fewer than 20."),
    mean_before: mean.describe("The same in the range `days_before` days before, in whole hours; in whole days if steps are days."),
  })
  .meta({ id: "TypeTrend" });
export type TypeTrend = z.output<typeof TypeTrend>;

export interface TypeTrends {
  /** The beginning of the first step. */
  readonly from: Date;
  readonly stepMinutes: number;
  readonly daysBefore: number;
  readonly items: TypeTrend[];
}

const HOUR = 60;
const DAY = 1_440;
/** In minutes. Only short ranges have steps of minutes, because counts of each name by minute are many rows. */
const STEPS = [1, 2, 5, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY];
const MOST_STEPS = 36;
const DAY_MS = 86_400_000;
const WEEK_MS = 7 * DAY_MS;
const MAX_NAMES = 1_000;
const ENOUGH = 20;

/** The minute in which the first task of all was counted, or its hour if its minutes are no longer kept; null if none was. */
export async function readCountedSince(reader: Reader): Promise<string | null> {
  const [row] = await reader.read<{ readonly at: string | null }>(
    sql`select ${isoOf(sql`case when hour < date_trunc('hour', minute) or minute is null then hour else minute end`)} as at from (
          select (select min(minute) from ${celeryTaskMinute}) as minute, (select min(at) from ${celeryTaskPeriod} where width = ${HOUR}::smallint) as hour
        ) first`,
  );
  return row?.at ?? null;
}

interface Row {
  readonly name: string;
  /** Null for the range before. */
  readonly step: number | null;
  readonly n: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Seconds of those that succeeded. */
  readonly seconds: number;
}

/** The most frequent first. */
export async function readTypeTrends(reader: Reader, range: { readonly from: Date; readonly to: Date }): Promise<TypeTrends> {
  const { to } = range;
  const lengthMs = to.getTime() - range.from.getTime();
  const stepMinutes = STEPS.find((step) => lengthMs / 60_000 / step <= MOST_STEPS) ?? Math.ceil(lengthMs / DAY_MS / MOST_STEPS) * DAY;
  const from = new Date(floor(range.from.getTime(), stepMinutes * 60_000));
  const steps = Math.max(1, Math.ceil((to.getTime() - from.getTime()) / stepMinutes / 60_000));
  const beforeMs = Math.max(1, Math.ceil(lengthMs / WEEK_MS)) * WEEK_MS;
  const lately = { from, to, stepMinutes };
  const stepMinutesBefore = stepMinutes % DAY === 0 ? DAY : HOUR;
  const before = {
    from: new Date(floor(range.from.getTime() - beforeMs, stepMinutesBefore * 60_000)),
    to: new Date(to.getTime() - beforeMs),
    stepMinutes: stepMinutesBefore,
  };
  const columns = sql`name, status, n, runtime_sum`;
  const rows = await reader.read<Row>(
    sql`select name, step, sum(n)::float8 as n, coalesce(sum(n) filter (where status = 'SUCCESS'), 0)::float8 as succeeded,
               coalesce(sum(n) filter (where status = 'FAILURE'), 0)::float8 as failed, coalesce(sum(runtime_sum) filter (where status = 'SUCCESS'), 0) as seconds
        from (
          select ${stepOf(lately)} as step, name, status, n, runtime_sum from (${periodsOf({ ...lately, of: "names", columns })}) lately
          union all
          select null, name, status, n, runtime_sum from (${periodsOf({ ...before, of: "names", columns })}) before
        ) counted group by name, step`,
  );
  const byName = new Map<string, Row[]>();
  for (const row of rows) byName.set(row.name, [...(byName.get(row.name) ?? []), row]);
  const items = [...byName]
    .flatMap(([name, all]) => toTrend(name, all, steps) ?? [])
    .sort((one, other) => total(other.counts) - total(one.counts))
    .slice(0, MAX_NAMES);
  return { from, stepMinutes, daysBefore: beforeMs / DAY_MS, items };
}

/** Undefined for a name that was only seen before. */
function toTrend(name: string, rows: readonly Row[], steps: number): TypeTrend | undefined {
  const lately = rows.filter(({ step }) => step !== null);
  if (lately.length === 0) return undefined;
  const counts = Array.from({ length: steps }, () => 0);
  for (const { step, n } of lately) if (step !== null && step < steps) counts[step] = n;
  return {
    name,
    counts,
    succeeded: total(lately.map(({ succeeded }) => succeeded)),
    failed: total(lately.map(({ failed }) => failed)),
    mean: meanOf(lately),
    mean_before: meanOf(rows.filter(({ step }) => step === null)),
  };
}

function meanOf(rows: readonly Row[]): number | null {
  const succeeded = total(rows.map((row) => row.succeeded));
  return succeeded < ENOUGH ? null : total(rows.map(({ seconds }) => seconds)) / succeeded;
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

function floor(instant: number, width: number): number {
  return Math.floor(instant / width) * width;
}
