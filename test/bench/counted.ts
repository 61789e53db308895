/** Whether the prometheus-processor has counted exactly what was published. */
import { parseScrape } from "@celery-metrics-exporter/testkit";
import type { Expected, Status } from "./expected.ts";

const COUNTERS: Readonly<Record<Status, string>> = {
  SUCCESS: "celery_task_succeeded_total",
  FAILURE: "celery_task_failed_total",
  REVOKED: "celery_task_revoked_total",
  REJECTED: "celery_task_rejected_total",
};

/** @param text the answer to a scrape. */
export function isExact(text: string, { byStatus }: Expected): boolean {
  const counted = new Map<string, number>();
  for (const [series, value] of parseScrape(text)) {
    const name = series.slice(0, series.indexOf("{"));
    counted.set(name, (counted.get(name) ?? 0) + value);
  }
  return [...byStatus].every(([status, wanted]) => counted.get(COUNTERS[status]) === wanted);
}
