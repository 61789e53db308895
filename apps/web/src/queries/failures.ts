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
  /** Whether more are in the range than are read (`MAX_READ`, `MAX_DISTINCT`); then only the newest are counted. */
  readonly truncated: boolean;
}

const MAX_READ = 20_000;
/** Exceptions that differ in more than their digits. */
const MAX_DISTINCT = 5_000;
const MAX_GROUPS = 200;
/** Characters of an exception that are looked at. */
const MAX_LENGTH = 300;

interface Row {
  readonly name: string | null;
  readonly status: FailureGroup["status"];
  /** What comes before the first parenthesis; null without one. */
  readonly head: string | null;
  /** The exception, in which every digit is a 0. */
  readonly exception: string | null;
  readonly count: number;
  readonly first_seen_at: string;
  readonly last_seen_at: string;
  readonly last_task_id: string;
  readonly read: number;
  readonly distinct: number;
}

/** The bytes of an instant sort like the instant. With an id behind them, `max` finds the id of the latest. */
const KEYED = sql`(encode(timestamptz_send(seen_at), 'hex') || task_id) collate "C"`;
const KEY_LENGTH = 16;

/** The database groups what differs only in digits, which is quick. What else makes texts equal is decided here, for each of them once. */
export async function readFailures(reader: Reader, { statuses, name, from, to, withData }: FailuresOptions): Promise<Failures> {
  const range = [
    ...(name === undefined ? [] : [sql`name = ${name}`]),
    ...(from === null ? [] : [sql`seen_at >= ${from}`]),
    ...(to === undefined ? [] : [sql`seen_at < ${to}`]),
  ];
  const newest = statuses.map(
    (status) =>
      sql`(select name, status, seen_at, task_id, left(exception, ${MAX_LENGTH}::int) as exception from ${TASK} where ${sql.join([sql`problem = ${status}`, ...range], sql` and `)} order by seen_at desc, task_id desc limit ${MAX_READ + 1})`,
  );
  const shape = withData ? sql`translate(exception, '123456789', '000000000')` : sql`null::text`;
  const rows = await reader.read<Row>(
    sql`select name, status, head, exception, count, ${isoOf(sql`first_seen`)} as first_seen_at, ${isoOf(sql`last_seen`)} as last_seen_at, last_task_id,
               (sum(count) over ())::int as read, (count(*) over ())::int as distinct
        from (
          select name, status, case when strpos(exception, '(') > 0 then split_part(exception, '(', 1) end as head, ${shape} as exception, count(*)::int as count, min(seen_at) as first_seen,
                 max(seen_at) as last_seen, substr(max(${KEYED}), ${KEY_LENGTH + 1}::int) as last_task_id
          from (select * from (${sql.join(newest, sql` union all `)}) problem order by seen_at desc limit ${MAX_READ + 1}) failure
          group by 1, 2, 3, 4
        ) grouped
        order by last_seen desc limit ${MAX_DISTINCT}`,
  );
  const groups = new Map<string, FailureGroup>();
  for (const row of rows) add(groups, row, withData);
  const items = [...groups.values()].sort((one, other) => other.count - one.count || (one.last_seen_at < other.last_seen_at ? 1 : -1));
  const [first] = rows;
  return { items: items.slice(0, MAX_GROUPS), truncated: (first?.read ?? 0) > MAX_READ || (first?.distinct ?? 0) > MAX_DISTINCT };
}

/** @param row comes after those that were seen later. */
function add(groups: Map<string, FailureGroup>, { name, status, head, exception: text, ...row }: Row, withData: boolean): void {
  const exception = head === null ? null : classOf(head);
  const message = !withData || text === null ? null : messageOf(text);
  const key = JSON.stringify([name, status, exception, message]);
  const group = groups.get(key);
  const { count, first_seen_at, last_seen_at, last_task_id } = row;
  if (group === undefined) {
    groups.set(key, { name, status, exception, message, count, first_seen_at, last_seen_at, last_task_id });
  } else {
    const earliest = group.first_seen_at < first_seen_at ? group.first_seen_at : first_seen_at;
    groups.set(key, { ...group, count: group.count + count, first_seen_at: earliest });
  }
}

/** Python's `repr` begins with the class. */
function classOf(head: string): string | null {
  return /^[A-Za-z_][A-Za-z0-9_.]*$/.test(head) ? head : null;
}

/** `repr` writes a line break as a backslash and an n. */
function messageOf(text: string): string {
  const [firstLine = ""] = text.replace(/^[A-Za-z0-9_.]+\(["']?|["']?,?\)$/g, "").split(String.raw`\n`, 1);
  return firstLine.replace(/[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|0x[0-9a-fA-F]+|[0-9]+/g, "#");
}
