/** What reads Flower's `/metrics`: its example dashboard and alerts, and Datadog's own integration of Celery. */
import type { Located } from "./grafana.ts";

const ENDS = 'flower_events_total{type=~"task-failed|task-succeeded"}[15m]';
const ratio = (type: string): string =>
  `(sum(avg_over_time(flower_events_total{type="${type}"}[15m])) by (task) / sum(avg_over_time(${ENDS})) by (task)) * 100`;

/** The expressions of Flower's dashboard “Celery Monitoring” (uid 3OBI1flGz), by panel. */
export const FLOWER_PANELS: readonly Located[] = [
  ["Celery Worker Status", "flower_worker_online"],
  ["Number of Tasks Currently Executing at Worker", "flower_worker_number_of_currently_executing_tasks"],
  ["Average Task Runtime at Worker", "rate(flower_task_runtime_seconds_sum[5m]) / rate(flower_task_runtime_seconds_count[5m])"],
  ["Task Prefetch Time at Worker", "flower_task_prefetch_time_seconds"],
  ["Number of Tasks Prefetched At Worker", "flower_worker_prefetched_tasks"],
  ["Task Success Ratio", ratio("task-succeeded")],
  ["Task Failure Ratio", ratio("task-failed")],
];

/** Those of its alerts, without their limits. */
export const FLOWER_ALERTS: readonly Located[] = [
  ["a worker is offline", "flower_worker_online"],
  ["many tasks fail", ratio("task-failed")],
  ["tasks wait at the worker", "sum by (task) (avg_over_time(flower_task_prefetch_time_seconds[15m]))"],
];

/** What Datadog's integration reads, and what it calls that, after `celery.flower.`. A counter's name has no `_total` here. */
export const DATADOG_METRICS: Readonly<Record<string, string>> = {
  flower_events: "events",
  flower_events_created: "events.created",
  flower_task_runtime_seconds: "task.runtime.seconds",
  flower_task_runtime_seconds_created: "task.runtime.created",
  flower_task_prefetch_time_seconds: "task.prefetch_time.seconds",
  flower_worker_prefetched_tasks: "worker.prefetched_tasks",
  flower_worker_online: "worker.online",
  flower_worker_number_of_currently_executing_tasks: "worker.executing_tasks",
};
