/** What comes into queues and what waits in them, by events. The broker tells only how long they are. */
import { celeryQueueMinute, celeryTaskMinute, celeryTaskPeriod, type Reader } from "@celery-metrics-exporter/db";
import { sql, type SQL } from "drizzle-orm";
import { z } from "zod";
import { TASK, TaskItem, isoOf, selectList } from "./columns.ts";
import { periodsOf, stepOf } from "./periods.ts";

const MINUTE_MS = 60_000;

export interface SentOptions {
  readonly from: Date;
  readonly stepMinutes: number;
  readonly steps: number;
}

/** How many tasks were sent to each queue, in each step. */
export async function readSent(reader: Reader, { from, stepMinutes, steps }: SentOptions): Promise<ReadonlyMap<string, number[]>> {
  const periods = periodsOf({ from, to: new Date(), stepMinutes, of: "queues", columns: sql`queue, n` });
  const rows = await reader.read<{ readonly queue: string; readonly step: number; readonly sent: number }>(
    sql`select queue, ${stepOf({ from, stepMinutes })} as step, sum(n)::float8 as sent from (${periods}) counted where queue <> '' group by 1, 2`,
  );
  const sent = new Map<string, number[]>();
  for (const row of rows) {
    const ofQueue = sent.get(row.queue) ?? Array.from({ length: steps }, () => 0);
    if (row.step < steps) ofQueue[row.step] = row.sent;
    sent.set(row.queue, ofQueue);
  }
  return sent;
}

const LATELY_MINUTES = 15;
/** Slower than this, in messages a minute, a queue keeps up. */
const SLOW = 0.5;

export const Lately = z
  .object({
    trend: z
      .enum(["grows", "shrinks", "steady"])
      .nullable()
      .describe(
        "`grows`: in the last third of this time it was always longer than ever in the first, and `change` is at least a half; `shrinks` the other way round. Null if its length is known of fewer than three minutes.",
      ),
    change: z.number().nullable().describe("By how many messages a minute it got longer. Null if its length is known of only one minute."),
    sent: z
      .number()
      .nullable()
      .describe(
        "Tasks that were sent to it a minute, in the minutes of which something is known; null if no `task-sent` of the range names it.",
      ),
    taken: z.number().nullable().describe("What was sent to it, less what it grew by, a minute."),
  })
  .meta({ id: "QueueLately" });
export type Lately = z.output<typeof Lately>;

/** A minute of which the length of a queue is known. */
export interface KnownMinute {
  /** Whole minutes since the beginning. */
  readonly minute: number;
  /** When it was observed, in minutes since the beginning. */
  readonly at: number;
  readonly messages: number;
  /** The greatest number of the minute. */
  readonly most: number;
}

function isLonger(lengths: readonly number[] = [], than: readonly number[] = []): boolean {
  return Math.min(...lengths) > Math.max(...than);
}

/** The one rule for what grows. Lengths go up and down, so two of them do not tell. @param known in the order of time. */
export function trendOf(known: readonly KnownMinute[]): Pick<Lately, "trend" | "change"> {
  const [first, last] = [known.at(0), known.at(-1)];
  if (first === undefined || last === undefined || first === last) return { trend: null, change: null };
  const change = (last.messages - first.messages) / Math.max(1, last.at - first.at);
  const third = Math.floor(known.length / 3);
  if (third === 0) return { trend: null, change };
  const [before, after] = [known.slice(0, third), known.slice(-third)].map((part) => part.map(({ most }) => most));
  if (change >= SLOW && isLonger(after, before)) return { trend: "grows", change };
  return { trend: change <= -SLOW && isLonger(before, after) ? "shrinks" : "steady", change };
}

/** @param sent tasks in each minute from the beginning on, of which the last one is not over; undefined if they are not known. */
export function latelyOf(known: readonly KnownMinute[], sent: readonly number[] | undefined): Lately {
  const whole = sent === undefined ? [] : known.filter(({ minute }) => minute < sent.length - 1);
  const [first, last] = [whole.at(0), whole.at(-1)];
  const nothing = { ...trendOf(known), sent: null, taken: null };
  if (sent === undefined || first === undefined || last === undefined) return nothing;
  const sum = (from: number, to: number): number => sent.slice(from, to).reduce((total, count) => total + count, 0);
  const rates = (from: number, before: number): Lately => {
    const [minutes, total] = [last.minute + 1 - from, sum(from, last.minute + 1)];
    return { ...trendOf(known), sent: total / minutes, taken: Math.max(0, total - (last.messages - before)) / minutes };
  };
  // Of its first minute it is not known what came before it was observed, and what after.
  if (first.minute === 0) return last === first ? nothing : rates(1, first.messages);
  // The queue is new, or the monitor. What had come in by its first observation was added to what was there before, as far as it was not taken.
  const begun = sent.findIndex((count) => count > 0);
  const from = begun === -1 ? first.minute : Math.min(first.minute, begun);
  return rates(from, Math.max(0, first.messages - sum(from, first.minute + 1)));
}

function beginningOfLately(): Date {
  return new Date(Math.floor(Date.now() / MINUTE_MS - LATELY_MINUTES) * MINUTE_MS);
}

/** The lengths of each queue in the last 15 minutes. A queue whose length nobody told has none. */
async function readLengths(reader: Reader, from: Date): Promise<ReadonlyMap<string, readonly KnownMinute[]>> {
  const begin = sql`${from.toISOString()}::timestamptz`;
  const rows = await reader.read<{ readonly queue: string; readonly known: readonly KnownMinute[] }>(
    sql`select queue, coalesce(json_agg(json_build_object(
            'minute', round(date_part('epoch', minute - ${begin}) / 60), 'at', date_part('epoch', observed_at - ${begin}) / 60,
            'messages', messages, 'most', messages_max
          ) order by minute) filter (where messages is not null), '[]') as known
        from ${celeryQueueMinute} where minute >= ${begin} and queue <> '' group by 1`,
  );
  return new Map(rows.map(({ queue, known }) => [queue, known]));
}

/** The queues that were observed in the last 15 minutes, and how many of them grow. */
export async function countGrowing(reader: Reader): Promise<{ readonly queues: number; readonly growing: number }> {
  const lengths = await readLengths(reader, beginningOfLately());
  return { queues: lengths.size, growing: [...lengths.values()].filter((known) => trendOf(known).trend === "grows").length };
}

/** @returns a function of a queue and whether it is known what is sent to it. */
export async function readLately(reader: Reader): Promise<(queue: string, isSentKnown: boolean) => Lately> {
  const from = beginningOfLately();
  const steps = LATELY_MINUTES + 1;
  const [lengths, sent] = await Promise.all([readLengths(reader, from), readSent(reader, { from, stepMinutes: 1, steps })]);
  const nothing = Array.from({ length: steps }, () => 0);
  return (queue, isSentKnown) => latelyOf(lengths.get(queue) ?? [], isSentKnown ? (sent.get(queue) ?? nothing) : undefined);
}

export interface Length {
  readonly name: string;
  /** Messages that no worker has taken. */
  readonly messages: number;
}

const MAX_QUEUES = 50;
/** Counts of minutes for so many hours, of hours before. */
const HOURS_OF_MINUTES = 2;
const HOURS = 72;
/** Tasks that are looked at from there on. */
const MAX_READ = 1_000;

/** The counts of tasks that were sent and not received, by minute and before by hour. */
const PENDING = sql`select at, queue, n from ${celeryTaskPeriod}
    where width = 1::smallint and name = '(all)' and at >= date_trunc('hour', now() - ${HOURS_OF_MINUTES}::int * interval '1 hour') and status = 'PENDING'
  union all
  select at, queue, n from ${celeryTaskPeriod}
    where width = 60::smallint and name = '(all)' and at >= date_trunc('hour', now() - ${HOURS}::int * interval '1 hour')
      and at < date_trunc('hour', now() - ${HOURS_OF_MINUTES}::int * interval '1 hour') and status = 'PENDING'`;

/**
 * In which minute the oldest waiting task of each queue (`queue`) was sent. Of those that no worker has received, as many as the queue has messages are
 * waiting, the newest ones: the others were purged, or a worker without events has taken them.
 */
function placesOf(lengths: readonly Length[]): SQL {
  return sql`select queue, coalesce((
      select min(at) from ${celeryTaskPeriod} counted
      where width = 1::smallint and name = '(all)' and counted.queue = oldest.queue and status = 'PENDING' and at >= first and at < first + interval '1 hour'
    ), first) as place
    from (
      select queue, min(at) as first from (
        select counted.queue, messages, at, sum(n) over (partition by counted.queue order by at desc) - n as newer
        from (${PENDING}) counted
        join (select name collate "C" as queue, messages from json_to_recordset(${JSON.stringify(lengths)}::json) as t (name text, messages float8)) wanted on wanted.queue = counted.queue
      ) summed where newer < messages group by queue
    ) oldest`;
}

/** Since when a task waits: never since before its ETA. */
const WAITS_SINCE = sql`greatest(seen_at, eta)`;

/** Since when the oldest task of each queue has been waiting. Queues in which nothing waits, as far as events tell, are left out. */
export async function readOldest(reader: Reader, lengths: readonly Length[]): Promise<ReadonlyMap<string, string>> {
  const asked = lengths.filter(({ messages }) => messages > 0).slice(0, MAX_QUEUES);
  if (asked.length === 0) return new Map();
  const rows = await reader.read<{ readonly queue: string; readonly at: string }>(
    sql`select place.queue, ${isoOf(sql`coalesce(first.since, place.place)`)} as at from (${placesOf(asked)}) place
        left join lateral (
          select min(${WAITS_SINCE}) as since from (
            select seen_at, eta, task_id, queue, status from ${TASK} where seen_at >= place.place order by seen_at, task_id limit ${MAX_READ}::int
          ) task
          where task.queue = place.queue and status = 'PENDING'
        ) first on true`,
  );
  return new Map(rows.map(({ queue, at }) => [queue, at]));
}

const WaitingTask = TaskItem.pick({ task_id: true, name: true, args: true, kwargs: true, seen_at: true, eta: true }).meta({
  id: "WaitingTask",
});

export const Waiting = z.object({
  tasks: z.array(WaitingTask).describe("The one that waits longest first. A task waits since it was sent, or since its ETA. At most 5."),
  types: z
    .array(z.object({ name: z.string().describe("Empty if it is not known."), count: z.number().int() }))
    .describe("What waits, the most frequent first. At most 10."),
});
export type Waiting = z.output<typeof Waiting>;

const OLDEST = 5;
const MAX_TYPES = 10;

/** What waits in a queue. @param withData false for a viewer. */
export async function readWaiting(reader: Reader, length: Length, withData: boolean): Promise<Waiting> {
  const [row] = await reader.read<{ place: string }>(sql`select ${isoOf(sql`place`)} as place from (${placesOf([length])}) places`);
  if (row === undefined) return { tasks: [], types: [] };
  const place = sql`${row.place}::timestamptz`;
  const minutesFrom = sql`date_trunc('hour', now() - ${HOURS_OF_MINUTES}::int * interval '1 hour')`;
  const isOurs = sql`queue = ${length.name} collate "C" and status = 'PENDING'`;
  const [tasks, types] = await Promise.all([
    reader.read<z.output<typeof WaitingTask>>(
      sql`select ${await selectList(reader, WaitingTask, withData)} from (
            select * from ${TASK} where seen_at >= ${place} order by seen_at, task_id limit ${MAX_READ}::int
          ) ${TASK}
          where queue = ${length.name} and status = 'PENDING' order by greatest(${TASK}.seen_at, ${TASK}.eta), ${TASK}.task_id limit ${OLDEST}::int`,
    ),
    reader.read<Waiting["types"][number]>(
      sql`select name, sum(n)::int as count from (
            select name, n from ${celeryTaskMinute} where minute >= greatest(${place}, ${minutesFrom}) and ${isOurs}
            union all
            select name, n from ${celeryTaskPeriod} where width = 60::smallint and at >= date_trunc('hour', ${place}) and at < ${minutesFrom} and name <> '(all)' and ${isOurs}
          ) counted group by 1 order by 2 desc, 1 limit ${MAX_TYPES}::int`,
    ),
  ]);
  return { tasks: [...tasks], types: [...types] };
}
