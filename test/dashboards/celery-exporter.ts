/** What celery-exporter and its dashboards on grafana.com use. Users keep those dashboards when they change to ours. */
import type { Located } from "./grafana.ts";

/** The series of celery-exporter. */
export const CELERY_EXPORTER_SERIES = [
  ...["sent", "received", "started", "succeeded", "failed", "rejected", "revoked", "retried"].map((state) => `celery_task_${state}_total`),
  ...["celery_task_runtime", "celery_task_queue_wait_time"].flatMap((name) => [`${name}_bucket`, `${name}_sum`, `${name}_count`]),
  "celery_worker_up",
  "celery_worker_tasks_active",
  "celery_queue_length",
  "celery_active_consumer_count",
  "celery_active_worker_count",
  "celery_active_process_count",
];

const SCOPE = 'cluster="$cluster", namespace="$namespace", job=~"$job", queue_name!~"None"';
const IN_QUEUE = `${SCOPE}, queue_name=~"$queue_name"`;
const NAMED = `${IN_QUEUE}, name!~"None"`;
const OF_TASK = `${NAMED}, name=~"$task"`;
const ENDS = ["succeeded", "failed", "sent", "received", "rejected", "retried", "revoked"];

const increased = (state: string, labels: string, range: string): string =>
  `sum(round(increase(celery_task_${state}_total{${labels}}[${range}])))`;
const ratio = (labels: string, range: string): string =>
  `${increased("succeeded", labels, range)} / (${increased("succeeded", labels, range)} + ${increased("failed", labels, range)})`;
const average = (labels: string, by: string): string =>
  `sum(rate(celery_task_runtime_sum{${labels}}[1w]))${by} / sum(rate(celery_task_runtime_count{${labels}}[1w]))${by} > 0`;

/** The expressions of “Celery / Tasks / Overview” (17509) and “Celery / Tasks / By Task” (17508), by panel. */
const CELERY_EXPORTER_PANELS: Readonly<Record<string, readonly string[]>> = {
  "17509 Workers": [`count(celery_worker_up{${SCOPE}} == 1)`],
  "17509 Workers Active Tasks": [`sum(celery_worker_tasks_active{${SCOPE}})`],
  "17509 Queues": [`count(group by (queue_name) (celery_queue_length{${SCOPE}}))`],
  "17509 Tasks received by workers": [increased("received", SCOPE, "1w")],
  "17509 Tasks Success Rate": [ratio(SCOPE, "1w")],
  "17509 Average Runtime": [average(SCOPE, "")],
  "17509 Queue Length by Queue": [`topk(10, sum(celery_queue_length{${SCOPE}}) by (queue_name))`],
  "17509 Task Rate by Name": [`topk(10, sum(rate(celery_task_received_total{${SCOPE}}[6h])) by (name))`],
  "17509 Task States": ENDS.map((state) => `sum(increase(celery_task_${state}_total{${SCOPE}}[6h]))`),
  "17509 Queue Length": [`sum(celery_queue_length{${IN_QUEUE}}) by (job, queue_name)`],
  "17509 Task Stats": [
    ratio(IN_QUEUE, "$__range"),
    ...ENDS.map((state) => `sum(round(increase(celery_task_${state}_total{${IN_QUEUE}}[$__range]))) by (job)`),
  ],
  "17509 Tasks Completed": ENDS.map((state) => increased(state, IN_QUEUE, "$__rate_interval")),
  "17509 Tasks Runtime": [0.5, 0.95, 0.99].map(
    (quantile) => `histogram_quantile(${quantile}, sum(irate(celery_task_runtime_bucket{${IN_QUEUE}}[$__rate_interval])) by (job, le))`,
  ),
  "17509 Top Failed Tasks": [`round(sum(increase(celery_task_failed_total{${NAMED}}[1w])) by (job, name)) > 0`],
  "17509 Top Exceptions": [`round(sum(increase(celery_task_failed_total{${NAMED}}[1w])) by (job, exception)) > 0`],
  "17509 Top Average Runtime": [average(NAMED, " by (name)")],
  "17508 Task Rate by Queue": [`topk(10, sum(rate(celery_task_received_total{${SCOPE}}[6h])) by (queue_name))`],
  "17508 Task Stats": ENDS.map((state) => `sum(round(increase(celery_task_${state}_total{${OF_TASK}}[1w]))) by (name)`),
  "17508 Task Exceptions": [`round(sum(increase(celery_task_failed_total{${OF_TASK}}[1w])) by (name, exception)) > 0`],
  "17508 Task Events": ENDS.map((state) => `sum(round(increase(celery_task_${state}_total{${OF_TASK}}[$__rate_interval]))) by (name)`),
  "17508 Exceptions by Type": [`sum(round(increase(celery_task_failed_total{${OF_TASK}}[$__rate_interval]))) by (exception)`],
  "17508 Success Rate": [
    `sum(rate(celery_task_succeeded_total{${OF_TASK}}[$__rate_interval])) by (name) / (sum(rate(celery_task_succeeded_total{${OF_TASK}}[$__rate_interval])) by (name) + sum(rate(celery_task_failed_total{${OF_TASK}}[$__rate_interval])) by (name))`,
  ],
  "17508 Tasks Runtime": [0.5, 0.95, 0.99].map(
    (quantile) =>
      `histogram_quantile(${quantile}, sum(irate(celery_task_runtime_bucket{${OF_TASK}}[$__rate_interval])) by (name, job, le))`,
  ),
};

export function celeryExporterExpressions(): Located[] {
  return Object.entries(CELERY_EXPORTER_PANELS).flatMap(([panel, list]) => list.map((expression) => [panel, expression] as const));
}

/** The queries of their variables. Without a series of workers nothing loads. */
export const CELERY_EXPORTER_VARIABLES = [
  "label_values(celery_worker_up, cluster)",
  'label_values(celery_worker_up{cluster="$cluster"}, namespace)',
  'label_values(celery_worker_up{cluster="$cluster", namespace="$namespace", job=~".*celery.*"}, job)',
  'label_values(celery_task_received_total{cluster="$cluster", namespace="$namespace", job=~"$job", queue_name!~"None"}, queue_name)',
  'label_values(celery_task_received_total{cluster="$cluster", namespace="$namespace", job=~"$job", name!~"None"}, name)',
];
