/** Measures how long after its last event a task's row was committed and its metrics were sent. */
import type { Agent } from "./agent.ts";
import type { PreparedStream } from "./prepared-load.ts";
import type { Stage } from "./stage.ts";

export interface Lag {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** The lag of every row of the stream: PostgreSQL records when the transaction that wrote it last was committed. */
export async function lagOfRows({ database }: Stage, { startsAt }: PreparedStream): Promise<Lag> {
  const lag = "extract(epoch from pg_xact_commit_timestamp(xmin) - finished_at) * 1000";
  const { rows } = await database.query<Record<"p50" | "p99" | "max", number>>(
    `select percentile_cont(0.5) within group (order by lag)::float8 as p50, percentile_cont(0.99) within group (order by lag)::float8 as p99,
       max(lag)::float8 as max from (select ${lag} as lag from celery_task where finished_at >= to_timestamp($1)) as lags`,
    [startsAt / 1_000],
  );
  const [{ p50, p99, max } = { p50: Number.NaN, p99: Number.NaN, max: Number.NaN }] = rows;
  return { p50Ms: p50, p99Ms: p99, maxMs: max };
}

/** The lag of the probes. */
export function lagOfMetrics(agent: Agent, { probes }: PreparedStream): Lag {
  const lags = [...probes].map(([name, endsAt]) => (agent.probes.get(name) ?? Number.NaN) - endsAt).sort((one, other) => one - other);
  const at = (share: number): number => lags[Math.min(lags.length - 1, Math.floor(share * lags.length))] ?? Number.NaN;
  return { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
}
