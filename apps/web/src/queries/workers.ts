/** Workers, from their heartbeats and from what they answer to the monitor. */
import { celeryWorker, listenedUntil, receiversNow, workerState, type Reader } from "@celery-metrics-exporter/db";
import { sql, type SQL } from "drizzle-orm";
import { z } from "zod";
import { isoOf } from "./columns.ts";

const instant = z.iso.datetime().nullable();
const whole = z.number().int().nullable();

export const Worker = z
  .object({
    name: z.string().describe("`name@host`."),
    state: z
      .enum(["up", "lost", "offline", "unknown"])
      .describe(
        "`up`: it was heard lately. `lost`: it fell silent for 30 s without a word, while the receivers of every broker listened. `offline`: it said that it stops. `unknown`: it was not heard for 90 s, but receivers did not listen, its events are processed late, or all workers fell silent together.",
      ),
    heard_at: instant.describe("When its last heartbeat came."),
    online_at: instant.describe("When it last started, if the event came."),
    first_seen_at: z.iso.datetime(),
    freq: z.number().nullable().describe("Seconds between heartbeats."),
    active: whole.describe("Tasks that it is running."),
    processed: whole.describe("Tasks since it started."),
    loadavg: z.array(z.number()).nullable().describe("Load of its host over 1, 5 and 15 minutes."),
    pid: whole,
    software: z.string().nullable().describe("Such as `py-celery 5.6.3`."),
    queues: z.array(z.string()).nullable().describe("Queues that it takes from. From here on, only a monitor that may ask workers knows."),
    pool: z.string().nullable(),
    concurrency: whole,
    prefetch_count: whole,
    observed_at: instant.describe("When it last answered."),
  })
  .meta({ id: "Worker" });
export type Worker = z.output<typeof Worker>;

type Row = Omit<Worker, "state"> & {
  readonly last_event_type: string | null;
  readonly heard: number | null;
  readonly observed: number | null;
  readonly until: number | null;
  readonly now: number;
};

const MAX_WORKERS = 1_000;

export interface WorkersOptions {
  readonly name: string | undefined;
  /** Others are left out if they were silent for longer. */
  readonly silentHours: number;
}

/** Lost ones first, then those that were heard last. */
export async function readWorkers(reader: Reader, { name, silentHours }: WorkersOptions): Promise<Worker[]> {
  const heard = sql`greatest(heard_at, observed_at, first_seen_at)`;
  const rows = await reader.read<Row>(
    sql`select hostname as name, ${instants("heard_at", "online_at", "first_seen_at", "observed_at")}, freq, active, processed::float8 as processed, loadavg, pid,
               nullif(concat_ws(' ', sw_ident, sw_ver), '') as software, queues, pool, concurrency, prefetch_count, last_event_type,
               date_part('epoch', heard_at) as heard, date_part('epoch', observed_at) as observed, date_part('epoch', ${listenedUntil()}) as until, date_part('epoch', ${receiversNow()}) as now
        from ${celeryWorker}
        where ${name === undefined ? sql`${heard} > now() - ${silentHours}::float8 * interval '1 hour'` : sql`hostname = ${name}`}
        order by ${heard} desc, hostname limit ${MAX_WORKERS}`,
  );
  const workers = rows.map(({ last_event_type, heard: heardAt, observed, until, now, ...row }) => ({
    ...row,
    state: workerState(
      { lastEventType: last_event_type ?? undefined, heardAt: heardAt ?? undefined, observedAt: observed ?? undefined },
      until ?? undefined,
      now,
    ),
  }));
  return workers.sort((one, other) => PLACE[one.state] - PLACE[other.state] || (one.name < other.name ? -1 : 1));
}

const PLACE = { lost: 0, unknown: 1, offline: 2, up: 3 };

function instants(...names: readonly string[]): SQL {
  return sql.join(
    names.map((name) => sql`${isoOf(sql.identifier(name) as unknown as SQL)} as ${sql.identifier(name)}`),
    sql`, `,
  );
}
