/** Sorts metrics, so that two sets can be compared. */
import type { ExpectedMetrics } from "./corpus.ts";

export interface Sample {
  readonly key: string;
  readonly seconds: number;
}

export interface SortedMetrics {
  readonly counts: unknown;
  readonly runs: readonly Sample[];
  readonly waits: readonly Sample[];
}

export function sortedMetrics({ run_time, wait_time, ...counts }: ExpectedMetrics): SortedMetrics {
  return {
    counts,
    runs: run_time.map(([task, state, seconds]) => ({ key: `${task} ${state}`, seconds })).sort(bySeconds),
    waits: wait_time.map(([task, seconds, basis]) => ({ key: `${task} ${basis}`, seconds })).sort(bySeconds),
  };
}

function bySeconds(a: Sample, b: Sample): number {
  return a.key < b.key ? -1 : a.key > b.key ? 1 : a.seconds - b.seconds;
}
