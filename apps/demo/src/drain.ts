/** The end of a demo: waits until every event is processed, then compares. */
import { pause } from "@celery-metrics-exporter/runtime";
import { compare, type Result } from "./comparison.ts";
import type { DemoSettings } from "./environment.ts";
import { scrape, tasksInDatadog, tasksInScrape, type CountedMetrics, type TasksInPostgres } from "./sides.ts";
import type { Workload } from "./workload.ts";

export interface DrainOptions {
  readonly workload: Workload;
  /** Undefined without the postgres exporter. */
  readonly table: Pick<TasksInPostgres, "finished"> | undefined;
  /** Undefined if metrics go elsewhere or nowhere. */
  readonly sink: Pick<CountedMetrics, "sums"> | undefined;
  /** The address that Prometheus scrapes. Undefined without the prometheus exporter. */
  readonly scrapedUrl: string | undefined;
  readonly settings: Pick<DemoSettings, "metricPrefix" | "queuePrefix">;
  readonly timing?: Timing;
}

interface Timing {
  /** Time for the sent tasks to end, and for their events to be processed. */
  readonly deadlineMs: number;
  /** Time for which the counts must keep agreeing, because anything counted twice is counted late. */
  readonly lastLookMs: number;
}

const TIMING: Timing = { deadlineMs: 90_000, lastLookMs: 3_000 };
const POLL_MS = 250;

/** Resolves when all sides keep agreeing, or at the deadline. Rejects if the workload has failed. */
export async function drain({ workload, table, sink, scrapedUrl, settings, timing = TIMING }: DrainOptions): Promise<Result> {
  const deadline = Date.now() + timing.deadlineMs;
  const look = async (): Promise<Result> => {
    const { ended, withoutEnd } = workload.outcome();
    const datadog = sink === undefined ? undefined : tasksInDatadog(sink, settings);
    const prometheus = scrapedUrl === undefined ? undefined : tasksInScrape(await scrape(scrapedUrl), settings.queuePrefix);
    return { comparison: compare({ celery: ended, datadog, postgres: await table?.finished(), prometheus }), withoutEnd };
  };
  await Promise.race([workload.finish(), workload.failed, pause(timing.deadlineMs)]);
  for (;;) {
    if ((await look()).comparison.agrees) {
      await pause(timing.lastLookMs);
      const later = await look();
      if (later.comparison.agrees) return later;
    }
    if (Date.now() > deadline) return look();
    await pause(POLL_MS);
  }
}
