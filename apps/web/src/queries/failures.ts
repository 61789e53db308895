/** Failures in groups: of one task, with one kind of exception and the same first line but for numbers and ids. */
import type { Reader } from "@celery-metrics-exporter/db";
import { sql } from "drizzle-orm";
import { z } from "zod";
import { STATUSES, TASK, isoOf } from "./columns.ts";

export const FailureGroup = z
  .object({
    name: z.string().nullable(),
    status: z.enum(STATUSES),
    exception: z.string().nullable().describe("The class of the exception."),
    message: z.string().nullable().describe("The first line, with `#` for numbers and ids. Null for a `viewer`."),
    count: z.number().int(),
    first_seen_at: z.iso.datetime(),
    last_seen_at: z.iso.datetime(),
    last_task_id: z.string(),
  })
  .meta({ id: "FailureGroup" });
export type FailureGroup = z.output<typeof FailureGroup>;

export interface FailuresOptions {
  readonly statuses: readonly string[];
  readonly name: string | undefined;
  readonly from: string | null;
  readonly to: string | undefined;
  /** False for a viewer. */
  readonly withData: boolean;
}

export interface Failures {
  readonly items: readonly FailureGroup[];
  /** Whether there are more than `MAX_READ` in the range; then only the newest are counted. */
  readonly truncated: boolean;
}

const MAX_READ = 20_000;
const MAX_GROUPS = 200;
/** Characters of an exception that are looked at. */
const MAX_LENGTH = 300;

/** Python's `repr` begins with the class, and writes a line break as a backslash and an n. */
const CLASS = sql`substring(exception from '^([A-Za-z_][A-Za-z0-9_.]*)[(]')`;
const FIRST_LINE = sql`split_part(regexp_replace(left(exception, ${MAX_LENGTH}::int), '^[A-Za-z0-9_.]+[(]["'']?|["'']?,?[)]$', '', 'g'), '\\n', 1)`;
const NORMALISED = sql`regexp_replace(${FIRST_LINE}, '[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|0x[0-9a-fA-F]+|[0-9]+', '#', 'g')`;

export async function readFailures(reader: Reader, { statuses, name, from, to, withData }: FailuresOptions): Promise<Failures> {
  const range = [
    ...(name === undefined ? [] : [sql`name = ${name}`]),
    ...(from === null ? [] : [sql`seen_at >= ${from}`]),
    ...(to === undefined ? [] : [sql`seen_at < ${to}`]),
  ];
  const newest = statuses.map(
    (status) =>
      sql`(select name, status, seen_at, task_id, exception from ${TASK} where ${sql.join([sql`problem = ${status}`, ...range], sql` and `)} order by seen_at desc, task_id desc limit ${MAX_READ})`,
  );
  const rows = await reader.read<FailureGroup & { read: number }>(
    sql`select name, status, exception, message, count(*)::int as count, ${isoOf(sql`min(seen_at)`)} as first_seen_at,
               ${isoOf(sql`max(seen_at)`)} as last_seen_at, (array_agg(task_id order by seen_at desc))[1] as last_task_id,
               (sum(count(*)) over ())::int as read
        from (
          select name, status, seen_at, task_id, ${CLASS} as exception, ${withData ? NORMALISED : sql`null`} as message
          from (${sql.join(newest, sql` union all `)}) problem order by seen_at desc limit ${MAX_READ}
        ) failure
        group by name, status, exception, message order by count(*) desc, max(seen_at) desc limit ${MAX_GROUPS}`,
  );
  return { items: rows.map(({ read: _read, ...group }) => group), truncated: (rows[0]?.read ?? 0) >= MAX_READ };
}
