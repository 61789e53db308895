/** Failures in groups: of one task, with one kind of exception and the same first line but for numbers and ids. */
import { idIn, idOfGreatest, type Reader } from "@celery-metrics-exporter/db";
import { sql, type SQL } from "drizzle-orm";
import { z } from "zod";
import { STATUSES, TASK, TaskItem, isoOf, selectList } from "./columns.ts";
import type { Row as ListRow } from "./list-tasks.ts";
import { withStuck } from "./stuck.ts";

export const FailureGroup = z
  .object({
    name: z.string().nullable(),
    status: z.enum(STATUSES),
    exception: z.string().nullable().describe("The class of the exception."),
    message: z.string().nullable().describe("The first line, with `#` for numbers and ids. Null for a `viewer`."),
    count: z.number().int(),
    parts: z.array(z.number().int()).describe("The count in each of 36 equal parts of the range."),
    first_seen_at: z.iso.datetime().describe("The first one of the range, or of the days before it in which `look_back` looks."),
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

export interface EarlierOptions extends Pick<FailuresOptions, "statuses" | "name"> {
  /** The beginning of the range. */
  readonly from: string;
  readonly days: number;
  /** For how long the answer serves a range that moves on. */
  readonly keepMs: number;
}

/** What failed before a range, in groups of equal exceptions. */
export interface EarlierFailures {
  readonly groups: readonly Earlier[];
  /** Since when it was looked at. */
  readonly since: string;
}

export interface Failures {
  readonly items: readonly FailureGroup[];
  /** How many groups there are, and how many tasks in them. */
  readonly groups: number;
  readonly tasks: number;
  /** Whether there are more than `MAX_READ` in the range; then only the newest are counted. */
  readonly truncated: boolean;
  /** The beginning of the first part: that of the range, or its oldest failure if it has none. Undefined without both. */
  readonly from: string | undefined;
  readonly to: string;
  /** Since when failures were looked at for `first_seen_at`. */
  readonly lookedBackTo: string | undefined;
}

const MAX_READ = 20_000;
const MAX_READ_BEFORE = 10_000;
const PARTS = 36;
export const MAX_GROUPS = 200;
/** Characters of an exception that are looked at. */
const MAX_LENGTH = 300;

/** Equal exceptions, whole. */
interface Row extends Omit<FailureGroup, "message" | "parts"> {
  /** The part of each, from 1 on. */
  readonly places: readonly number[];
  readonly from: string;
}

type Earlier = Pick<FailureGroup, "name" | "status" | "exception" | "first_seen_at" | "count">;

const LAST_ID = sql.raw(idIn(idOfGreatest("task_id", "date_part('epoch', seen_at)")));

const READ = sql`left(exception, ${MAX_LENGTH}::int)`;
/** With zeros for the digits behind the class: exceptions that differ only in numbers are then mostly equal. */
const EXCEPTION = sql`left(${READ}, strpos(${READ}, '(')) || translate(substr(${READ}, strpos(${READ}, '(') + 1), '123456789', '000000000') as exception`;

/** The newest with these statuses, as a query with `name`, `status`, `exception`, `seen_at` and `task_id`. */
function newest({ statuses, name }: Pick<FailuresOptions, "statuses" | "name">, range: readonly SQL[], limit: number): SQL {
  const parts = statuses.map((status) => {
    const conditions = [sql`problem = ${status}`, ...(name === undefined ? [] : [sql`name = ${name}`]), ...range];
    return sql`(select name, status, seen_at, task_id, ${EXCEPTION} from ${TASK} where ${sql.join(conditions, sql` and `)} order by seen_at desc, task_id desc limit ${limit}::int)`;
  });
  return sql`select * from (${sql.join(parts, sql` union all `)}) problem order by seen_at desc limit ${limit}::int`;
}

/** The first ones of each group before a range, among the newest 10,000. */
export async function readEarlierFailures(reader: Reader, { from, days, keepMs, ...options }: EarlierOptions): Promise<EarlierFailures> {
  const [since, until] = [-days * 86_400_000, keepMs].map((by) => new Date(Date.parse(from) + by).toISOString());
  const groups = await reader.read<Earlier>(
    sql`select name, status, exception, count(*)::int as count, ${isoOf(sql`min(seen_at)`)} as first_seen_at
        from (${newest(options, [sql`seen_at < ${until}`, sql`seen_at >= ${since}`], MAX_READ_BEFORE)}) failure
        group by 1, 2, 3`,
  );
  return { groups, since: (countOf(groups) >= MAX_READ_BEFORE ? oldestOf(groups) : since) ?? from };
}

/**
 * The database groups equal exceptions. What else makes them equal is decided here, because its regular expressions are slow.
 *
 * @param earlier `readEarlierFailures` for this range.
 */
export async function readFailures(reader: Reader, options: FailuresOptions, earlier?: Promise<EarlierFailures>): Promise<Failures> {
  const { from, withData } = options;
  const to = (options.to === undefined ? new Date() : new Date(options.to)).toISOString();
  const range = [...(from === null ? [] : [sql`seen_at >= ${from}`]), ...(options.to === undefined ? [] : [sql`seen_at < ${options.to}`])];
  const since = from === null ? sql`min(seen_at) over ()` : sql`${from}::timestamptz`;
  const [rows, before] = await Promise.all([
    reader.read<Row>(
      sql`select name, status, exception, count(*)::int as count, ${isoOf(sql`min(seen_at)`)} as first_seen_at, ${isoOf(sql`max(seen_at)`)} as last_seen_at,
                 ${LAST_ID} as last_task_id, ${isoOf(sql`min(since)`)} as from,
                 array_agg(least(${PARTS}::int, width_bucket(date_part('epoch', seen_at), date_part('epoch', since), date_part('epoch', greatest(${to}::timestamptz, since) + interval '1 ms'), ${PARTS}::int))) as places
          from (select *, ${since} as since from (${newest(options, range, MAX_READ + 1)}) newest) failure
          group by 1, 2, 3`,
    ),
    earlier,
  ]);
  const groups = new Map<string, FailureGroup>();
  for (const row of rows) add(groups, row, withData);
  const truncated = countOf(rows) > MAX_READ;
  const oldest = truncated ? oldestOf(rows) : (from ?? undefined);
  // With a hole between them, nothing is known about the first one.
  if (!truncated) for (const row of before?.groups ?? []) addEarlier(groups, row, withData);
  const sorted = [...groups.values()].sort(
    (one, other) => other.count - one.count || (other.last_seen_at > one.last_seen_at ? 1 : other.last_seen_at < one.last_seen_at ? -1 : 0),
  );
  return {
    items: sorted.slice(0, MAX_GROUPS),
    groups: sorted.length,
    tasks: countOf(rows),
    truncated,
    from: from ?? rows[0]?.from,
    to,
    lookedBackTo: truncated ? oldest : (before?.since ?? oldest),
  };
}

function countOf(rows: readonly { readonly count: number }[]): number {
  return rows.reduce((sum, { count }) => sum + count, 0);
}

/** Texts of instants sort like the instants. */
function oldestOf(rows: readonly { readonly first_seen_at: string }[]): string | undefined {
  return rows.reduce<string | undefined>((oldest, { first_seen_at: at }) => (oldest === undefined || at < oldest ? at : oldest), undefined);
}

/** What an exception has in common with others of its group. */
function kindOf(text: string | null, withData: boolean): Pick<FailureGroup, "exception" | "message"> {
  return text === null ? { exception: null, message: null } : { exception: classOf(text), message: withData ? messageOf(text) : null };
}

function keyOf({ name, status, exception, message }: Pick<FailureGroup, "name" | "status" | "exception" | "message">): string {
  return JSON.stringify([name, status, exception, message]);
}

function addEarlier(groups: Map<string, FailureGroup>, row: Earlier, withData: boolean): void {
  const group = groups.get(keyOf({ ...row, ...kindOf(row.exception, withData) }));
  if (group !== undefined && row.first_seen_at < group.first_seen_at) group.first_seen_at = row.first_seen_at;
}

function add(groups: Map<string, FailureGroup>, row: Row, withData: boolean): void {
  const { name, status, places, first_seen_at, last_seen_at, last_task_id } = row;
  const kind = { name, status, ...kindOf(row.exception, withData) };
  const key = keyOf(kind);
  const seen = { first_seen_at, last_seen_at, last_task_id };
  const group = groups.get(key) ?? { ...kind, count: 0, ...seen, parts: Array.from({ length: PARTS }, () => 0) };
  groups.set(key, group);
  group.count += row.count;
  for (const place of places) group.parts[place - 1] = (group.parts[place - 1] ?? 0) + 1;
  if (first_seen_at < group.first_seen_at) group.first_seen_at = first_seen_at;
  if (last_seen_at > group.last_seen_at) Object.assign(group, { last_seen_at, last_task_id });
}

export const FailureDetails = z
  .object({
    read: z.number().int().describe("The newest tasks of the group that were looked at."),
    workers: z.array(z.object({ name: z.string(), count: z.number().int() })).describe("The most frequent first; at most 5."),
    queues: z.array(z.object({ name: z.string(), count: z.number().int() })),
    attempts: z
      .array(z.object({ attempt: z.number().int(), count: z.number().int() }))
      .describe("At which attempt they ended; at most 10."),
    shortest: z.number().nullable().describe("Seconds of the shortest run."),
    longest: z.number().nullable(),
    latest: z.array(TaskItem).describe("The newest tasks of the group; at most 5."),
  })
  .meta({ id: "FailureDetails" });
export type FailureDetails = z.output<typeof FailureDetails>;

export interface DetailsOptions extends Omit<FailuresOptions, "statuses"> {
  readonly status: string;
  /** As in the group; undefined for one without. */
  readonly exception: string | undefined;
  readonly message: string | undefined;
}

interface Detail {
  readonly task_id: string;
  readonly exception: string | null;
  readonly worker: string | null;
  readonly queue: string | null;
  readonly retries: number | null;
  readonly duration: number | null;
}

const MAX_DETAILS = 2_000;
const MAX_PLACES = 5;
const MAX_ATTEMPTS = 10;
const MAX_LATEST = 5;

/** Where the newest tasks of a group ended, and at which attempt. */
export async function readFailureDetails(reader: Reader, options: DetailsOptions): Promise<FailureDetails> {
  const { status, name, from, to, withData } = options;
  const conditions = [
    sql`problem = ${status}`,
    name === undefined ? sql`name is null` : sql`name = ${name}`,
    ...(from === null ? [] : [sql`seen_at >= ${from}`]),
    ...(to === undefined ? [] : [sql`seen_at < ${to}`]),
  ];
  const all = await reader.read<Detail>(
    sql`select task_id, ${EXCEPTION}, worker, queue, retries, duration from ${TASK}
        where ${sql.join(conditions, sql` and `)} order by seen_at desc, task_id desc limit ${MAX_DETAILS}::int`,
  );
  const rows = all.filter((row) => {
    const { exception, message } = kindOf(row.exception, withData);
    return (exception ?? undefined) === options.exception && (!withData || (message ?? undefined) === options.message);
  });
  const latest = await readLatest(reader, rows.slice(0, MAX_LATEST), withData);
  const durations = rows.flatMap(({ duration }) => (duration === null ? [] : [duration]));
  return {
    read: rows.length,
    workers: frequent(rows.map(({ worker }) => worker ?? "")).map(([worker, count]) => ({ name: worker, count })),
    queues: frequent(rows.map(({ queue }) => queue ?? "")).map(([queue, count]) => ({ name: queue, count })),
    attempts: [...countEach(rows.map(({ retries }) => (retries ?? 0) + 1))]
      .sort(([one], [other]) => one - other)
      .slice(0, MAX_ATTEMPTS)
      .map(([attempt, count]) => ({ attempt, count })),
    shortest: durations.length === 0 ? null : Math.min(...durations),
    longest: durations.length === 0 ? null : Math.max(...durations),
    latest,
  };
}

async function readLatest(reader: Reader, of: readonly Detail[], withData: boolean): Promise<TaskItem[]> {
  if (of.length === 0) return [];
  const ids = sql.join(
    of.map(({ task_id }) => sql`${task_id}`),
    sql`, `,
  );
  const rows = await reader.read<ListRow>(
    sql`select ${await selectList(reader, TaskItem, withData)} from ${TASK} where task_id in (${ids}) order by seen_at desc, task_id desc`,
  );
  return withStuck(reader, rows);
}

function countEach<T>(values: readonly T[]): Map<T, number> {
  const counts = new Map<T, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

function frequent(values: readonly string[]): (readonly [string, number])[] {
  return [...countEach(values)]
    .filter(([value]) => value !== "")
    .sort(([, one], [, other]) => other - one)
    .slice(0, MAX_PLACES);
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
