/** What is missing in the data: how many of the newest tasks lack something that a setting of Celery would bring. */
import { celeryTask, celeryWorker, type Reader } from "@celery-metrics-exporter/db";
import { TimedOutError } from "@celery-metrics-exporter/runtime";
import { sql } from "drizzle-orm";
import { z } from "zod";
import { TASK, isoOf } from "./columns.ts";
import { rolledUpAt } from "./statistics.ts";

export const DataHealth = z
  .object({
    tasks: z.number().int().describe("How many of the newest tasks were looked at, up to 1,000."),
    without_queue: z
      .number()
      .int()
      .describe("Of these, tasks without a `task-sent` event: the queue is not known. `task_send_sent_event = True` brings it."),
    cut: z.number().int().describe("Of these, tasks whose arguments Celery cut. `app.amqp.argsrepr_maxsize` sets the length."),
    without_start: z.number().int().describe("Of these, tasks that succeeded or failed although no event says that they started."),
    without_end: z
      .number()
      .int()
      .describe(
        "Of these, tasks that started on a worker whose last heartbeat, ten seconds later or more, said that it runs nothing. Some pools of Celery lose events, and a task that raises Ignore sends none.",
      ),
    silent_workers: z.array(z.string()).describe("Workers that work but send no events of tasks. `celery worker -E` brings them."),
    last_event_at: z.iso.datetime().nullable().describe("The newest event of a task."),
    last_write_at: z.iso.datetime().nullable().describe("When the newest of these rows was written."),
    lag: z.number().nullable().describe("Seconds from an event to its row, in the latest rows."),
    rolled_up_at: z.iso.datetime().nullable().describe("When statistics were last brought up to date; null if never."),
  })
  .meta({ id: "DataHealth" });
export type DataHealth = z.output<typeof DataHealth>;

const NEWEST = 1_000;
const LATEST_WRITES = 20;
const MOST_SILENT = 20;
const LATELY = 20_000;
const SILENT_MS = 1_000;
/** Heartbeats come every two seconds, and clocks differ. */
const IDLE_SECONDS = 10;

export async function readDataHealth(reader: Reader): Promise<DataHealth> {
  const newest = sql`(select * from ${TASK} order by seen_at desc, task_id desc limit ${NEWEST}) newest`;
  const [[row], silent, rolled_up_at] = await Promise.all([
    reader.read<Omit<DataHealth, "silent_workers" | "rolled_up_at">>(
      sql`select count(*)::int as tasks, (count(*) filter (where queue is null))::int as without_queue,
                 (count(*) filter (where args ~ ${CUT} or kwargs ~ ${CUT}))::int as cut,
                 (count(*) filter (where status in ('SUCCESS', 'FAILURE') and started_at is null))::int as without_start,
                 (count(*) filter (where status = 'STARTED' and exists (
                   select from ${celeryWorker} idle where idle.hostname = newest.worker and active = 0 and last_event_type = 'worker-heartbeat'
                     and heard_at > coalesce(newest.run_started_at, newest.started_at) + ${IDLE_SECONDS}::float8 * interval '1 second'
                 )))::int as without_end,
                 ${isoOf(sql`max(last_event_at)`)} as last_event_at, ${isoOf(sql`max(updated_at)`)} as last_write_at,
                 -- Of several rows, because a late event of one task says nothing about the others.
                 (select date_part('epoch', min(updated_at - last_event_at))
                  from (select * from ${newest} order by updated_at desc limit ${LATEST_WRITES}) latest) as lag
          from ${newest}`,
    ),
    silentWorkers(reader),
    rolledUpAt(reader),
  ]);
  if (row === undefined) throw new Error("the newest tasks have no counts");
  return { ...row, silent_workers: silent.map(({ name }) => name), rolled_up_at };
}

/** Heartbeats tell that they work. If nothing of what they did is known, their events are off. */
async function silentWorkers(reader: Reader): Promise<readonly { readonly name: string }[]> {
  try {
    return await reader.read<{ name: string }>(
      sql`with lately as materialized (
            select distinct worker from (select worker from ${TASK} order by seen_at desc, task_id desc limit ${LATELY}) newest
          )
          select hostname as name from ${celeryWorker} worker
          where processed > 0 and active > 0 and heard_at > now() - interval '1 minute' and last_event_type <> 'worker-offline'
            and not exists (select from lately where lately.worker = worker.hostname)
            and not exists (select from ${celeryTask} task where task.worker = worker.hostname and task.seen_at > now() - interval '1 day')
          order by 1 limit ${MOST_SILENT}`,
      SILENT_MS,
    );
  } catch (thrown) {
    // A day with very many tasks: better no note than a wrong one.
    if (thrown instanceof TimedOutError) return [];
    throw thrown;
  }
}

const CUT = String.raw`\.\.\.\W*$`;
