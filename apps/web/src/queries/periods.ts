/** Reads the counts of tasks with the widest periods that steps allow. `readStatistics` does more, and sums percentiles for every step. */
import { celeryRollup, celeryTaskMinute, celeryTaskPeriod } from "@celery-metrics-exporter/db";
import { getTableName, sql, type SQL } from "drizzle-orm";

const HOUR = 60;
const DAY = 1_440;

export interface PeriodsOptions {
  /** The beginning of a step. */
  readonly from: Date;
  readonly to: Date;
  readonly stepMinutes: number;
  /** Whether to read the counts of each name, or those of each queue. */
  readonly of: "names" | "queues";
  readonly columns: SQL;
}

/** Rows with the columns and `at`, as a query. */
export function periodsOf({ from, to, stepMinutes, of, columns }: PeriodsOptions): SQL {
  const [begin, end] = [sql`${from.toISOString()}::timestamptz`, sql`${to.toISOString()}::timestamptz`];
  const total = of === "names" ? sql`name <> '(all)'` : sql`name = '(all)' and queue <> '(all)'`;
  const periods = (width: number, since: SQL, until: SQL): SQL =>
    sql`select at, ${columns} from ${celeryTaskPeriod} where width = ${width}::smallint and ${total} and at >= ${since} and at < least(${until}, ${end})`;
  const minutes = (since: SQL): SQL =>
    of === "names"
      ? sql`select minute as at, ${columns} from ${celeryTaskMinute} where minute >= ${since} and minute < ${end}`
      : periods(1, since, end);
  const hoursSince = (since: SQL): SQL =>
    sql`${periods(HOUR, since, completeBefore("hours"))} union all ${minutes(sql`greatest(${begin}, ${completeBefore("hours")})`)}`;
  if (stepMinutes % HOUR !== 0) return minutes(begin);
  if (stepMinutes % DAY !== 0) return hoursSince(begin);
  return sql`${periods(DAY, begin, completeBefore("days"))} union all ${hoursSince(sql`greatest(${begin}, ${completeBefore("days")})`)}`;
}

/** Hours, or days, before this instant are complete. */
function completeBefore(what: "hours" | "days"): SQL {
  const column = sql.identifier(`${what}_before`);
  return sql`coalesce((select ${column} from ${celeryRollup} where name = ${getTableName(celeryTaskMinute)}), '-infinity')`;
}

/** The number of the step that `at` is in, as an expression. */
export function stepOf({ from, stepMinutes }: Pick<PeriodsOptions, "from" | "stepMinutes">): SQL {
  return sql`floor(date_part('epoch', at - ${from.toISOString()}::timestamptz) / 60 / ${stepMinutes}::int)::int`;
}
