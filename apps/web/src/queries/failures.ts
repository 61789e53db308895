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

/** Equal exceptions, whole. */
type Row = Omit<FailureGroup, "message">;

/** The bytes of an instant sort like the instant. With an id behind them, `max` finds the id of the latest. */
const KEYED = sql`(encode(timestamptz_send(seen_at), 'hex') || task_id) collate "C"`;
const KEY_LENGTH = 16;

/** The database groups equal exceptions. What else makes them equal is decided here, because its regular expressions are slow. */
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
  const rows = await reader.read<Row>(
    sql`select name, status, exception, count(*)::int as count, ${isoOf(sql`min(seen_at)`)} as first_seen_at, ${isoOf(sql`max(seen_at)`)} as last_seen_at,
               substr(max(${KEYED}), ${KEY_LENGTH + 1}::int) as last_task_id
        from (select * from (${sql.join(newest, sql` union all `)}) problem order by seen_at desc limit ${MAX_READ + 1}) failure
        group by 1, 2, 3`,
  );
  const groups = new Map<string, FailureGroup>();
  for (const row of rows) add(groups, row, withData);
  const sorted = [...groups.values()].sort(
    (one, other) => other.count - one.count || (other.last_seen_at > one.last_seen_at ? 1 : other.last_seen_at < one.last_seen_at ? -1 : 0),
  );
  return { items: sorted.slice(0, MAX_GROUPS), truncated: rows.reduce((sum, { count }) => sum + count, 0) > MAX_READ };
}

function add(groups: Map<string, FailureGroup>, { name, status, exception: text, ...row }: Row, withData: boolean): void {
  const exception = text === null ? null : classOf(text);
  const message = !withData || text === null ? null : messageOf(text);
  const key = `${name}\0${status}\0${exception}\0${message}`;
  const group = groups.get(key);
  if (group === undefined) {
    groups.set(key, { name, status, exception, message, ...row });
    return;
  }
  group.count += row.count;
  // Texts of instants sort like the instants.
  if (row.first_seen_at < group.first_seen_at) group.first_seen_at = row.first_seen_at;
  if (row.last_seen_at > group.last_seen_at) Object.assign(group, { last_seen_at: row.last_seen_at, last_task_id: row.last_task_id });
}

/** Python's `repr` begins with the class. */
function classOf(text: string): string | null {
  return /^([A-Za-z_][A-Za-z0-9_.]*)\(/.exec(text)?.[1] ?? null;
}

/** `repr` writes a line break as a backslash and an n. */
function messageOf(text: string): string {
  const [firstLine = ""] = text.replace(/^[A-Za-z0-9_.]+\(["']?|["']?,?\)$/g, "").split(String.raw`\n`, 1);
  return firstLine.replace(/[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|0x[0-9a-fA-F]+|[0-9]+/g, "#");
}
