/** Statistics from the roll-ups. */
import { type Reader, type Statistics, celeryRollup, celeryTaskMinute } from "@celery-metrics-exporter/db";
import { getTableName, sql } from "drizzle-orm";
import { z } from "zod";
import { isoOf } from "./columns.ts";

const seconds = z.number().nullable();

const Durations = z.object({
  count: z.number().int().describe("Tasks that have one."),
  p50: seconds,
  p95: seconds,
  p99: seconds,
});

export const StatisticsItem = z
  .object({
    at: z.iso.datetime().nullable().describe("The beginning of the step; null without steps."),
    name: z.string().optional().describe("Empty if it is not known; `(other)` for rare names."),
    queue: z.string().optional().describe("As `name`."),
    status: z.string().optional(),
    count: z.number().int().describe("Tasks that were first seen in this time."),
    runtime: Durations.describe("Seconds of the last run. Percentiles are at most about 25 % from the exact ones."),
    wait: Durations.describe("Seconds from sending, or from the ETA, to the first start."),
    slowest: seconds.describe("The longest run."),
    slowest_id: z.string().nullable(),
    last_failed_id: z.string().nullable(),
  })
  .meta({ id: "StatisticsItem" });
export type StatisticsItem = z.output<typeof StatisticsItem>;

/** Without a rest of properties, which takes longer than all else that is done with an item. */
export function toItem(statistics: Statistics): StatisticsItem {
  const { name, queue, status } = statistics;
  return {
    at: statistics.at ?? null,
    ...(name !== undefined && { name }),
    ...(queue !== undefined && { queue }),
    ...(status !== undefined && { status }),
    count: statistics.n,
    runtime: orNull(statistics.runtime),
    wait: orNull(statistics.wait),
    slowest: statistics.slowest ?? null,
    slowest_id: statistics.slowestId ?? null,
    last_failed_id: statistics.lastFailedId ?? null,
  };
}

function orNull({ count, p50, p95, p99 }: Statistics["runtime"]): z.output<typeof Durations> {
  return { count, p50: p50 ?? null, p95: p95 ?? null, p99: p99 ?? null };
}

/** When the counts were last brought up to date; null if never. */
export async function rolledUpAt(reader: Reader): Promise<string | null> {
  const [row] = await reader.read<{ at: string | null }>(
    sql`select ${isoOf(sql`rolled_up_at`)} as at from ${celeryRollup} where name = ${getTableName(celeryTaskMinute)}`,
  );
  return row?.at ?? null;
}
