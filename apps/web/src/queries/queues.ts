/** Lengths of Celery's queues, from what the monitor observed. */
import { celeryQueueMinute, type Reader } from "@celery-metrics-exporter/db";
import { sql } from "drizzle-orm";
import { z } from "zod";
import { isoOf } from "./columns.ts";

export const Queue = z
  .object({
    name: z.string(),
    observed_at: z.iso.datetime().describe("When its length was last asked for."),
    messages: z.number().int().nullable().describe("Messages that no worker has taken."),
    consumers: z.number().int().nullable().describe("Only RabbitMQ tells."),
    lengths: z.array(z.number().int().nullable()).describe("The greatest length in each step of the range; null if nobody asked."),
  })
  .meta({ id: "Queue" });
export type Queue = z.output<typeof Queue>;

export const Unacked = z.object({
  messages: z.number().int().nullable().describe("Messages that workers have taken and not acknowledged."),
  oldest_at: z.iso.datetime().nullable().describe("When a worker took the oldest of them."),
});

export interface QueuesOptions {
  readonly from: Date;
  readonly stepMinutes: number;
  readonly steps: number;
}

export interface Queues {
  readonly items: Queue[];
  /** Of all queues together. Only Redis tells. */
  readonly unacked: z.output<typeof Unacked> | null;
}

interface Row {
  readonly name: string;
  readonly observed_at: string;
  readonly messages: number | null;
  readonly consumers: number | null;
  readonly unacked: number | null;
  readonly oldest_at: string | null;
  readonly steps: readonly number[];
  readonly lengths: readonly (number | null)[];
}

const MAX_QUEUES = 500;

export async function readQueues(reader: Reader, { from, stepMinutes, steps }: QueuesOptions): Promise<Queues> {
  const begin = sql`${from.toISOString()}::timestamptz`;
  const rows = await reader.read<Row>(
    sql`with minutes as materialized (
          select * from ${celeryQueueMinute} where minute >= ${begin}
        ), newest as (
          select distinct on (queue) * from minutes order by queue, minute desc limit ${MAX_QUEUES}
        ), lengths as (
          select queue, step, max(messages_max) as length
          from minutes, lateral (select floor(date_part('epoch', minute - ${begin}) / 60 / ${stepMinutes}::int)::int as step) of_minute
          group by queue, step
        )
        select newest.queue as name, ${isoOf(sql`newest.observed_at`)} as observed_at, messages::float8 as messages, consumers, unacked::float8 as unacked,
               ${isoOf(sql`newest.oldest_at`)} as oldest_at,
               (select coalesce(array_agg(step order by step), '{}') from lengths where lengths.queue = newest.queue) as steps,
               (select coalesce(array_agg(length::float8 order by step), '{}') from lengths where lengths.queue = newest.queue) as lengths
        from newest order by messages desc nulls last, newest.queue`,
  );
  const all = rows.find(({ name }) => name === "");
  return {
    items: rows
      .filter(({ name }) => name !== "")
      .map(({ name, observed_at, messages, consumers, steps: known, lengths }) => ({
        name,
        observed_at,
        messages,
        consumers,
        lengths: Array.from({ length: steps }, (_, step) => lengths[known.indexOf(step)] ?? null),
      })),
    unacked: all === undefined ? null : { messages: all.unacked, oldest_at: all.oldest_at },
  };
}
