/**
 * The metrics of tasks. Every name begins with the prefix, `celery.` by default.
 *
 *   task.wait_time       distribution, seconds  queue, task_name, basis (`sent`, `received`)    one value per attempt
 *   task.run_time        distribution, seconds  queue, task_name, state (`success`, `failure`)  one value per run that succeeded or failed
 *   task.success_count   count                  queue, task_name
 *   task.fail_count      count                  queue, task_name, exception (opt-in)
 *   task.revoked_count   count                  queue, task_name
 *   task.rejected_count  count                  queue, task_name
 *
 * and `worker` on each, opt-in. Never a task's id or arguments: every combination of tags is a custom metric that costs money.
 */
import type { Completion, FinalState, Summary, Wait } from "@celery-metrics-exporter/task-store";
import { SeriesCollector, type MetricType, type Series } from "./series.ts";
import { TagCache, normaliseTag } from "./tags.ts";

type TimerType = "distribution" | "histogram" | "timing";

export interface MetricOptions {
  readonly prefix: string;
  /** For every metric. */
  readonly tags: readonly string[];
  readonly timerType: TimerType;
  readonly tagWorker: boolean;
  readonly tagException: boolean;
}

/** What of a summary is sent. */
export type TaskMetrics = Pick<Summary, "name" | "queue" | "completions" | "waits">;

const COUNTS: Readonly<Record<FinalState, string>> = {
  SUCCESS: "task.success_count",
  FAILURE: "task.fail_count",
  REVOKED: "task.revoked_count",
  REJECTED: "task.rejected_count",
};

/** DogStatsD's `ms` are milliseconds; the other types take seconds. */
const TIMERS: Readonly<Record<TimerType, { type: MetricType; perSecond: number }>> = {
  distribution: { type: "d", perSecond: 1 },
  histogram: { type: "h", perSecond: 1 },
  timing: { type: "ms", perSecond: 1_000 },
};

/** Turns what tasks did into series. */
export class TaskMetricsMapper {
  readonly #options: MetricOptions;
  readonly #tags = new TagCache();
  /** The tags for every metric, each after a comma. */
  readonly #commonTags: string;

  constructor(options: MetricOptions) {
    this.#options = options;
    const tags = new Set(options.tags.map(normaliseTag));
    this.#commonTags = [...tags]
      .filter((tag) => tag !== "")
      .map((tag) => `,${tag}`)
      .join("");
  }

  seriesOf(tasks: readonly TaskMetrics[]): Series[] {
    const series = new SeriesCollector();
    for (const { name, queue, completions, waits } of tasks) {
      const taskTags = `${this.#tags.tag("queue", queue)},${this.#tags.tag("task_name", name)}${this.#commonTags}`;
      for (const completion of completions) this.#addCompletion(series, taskTags, completion);
      for (const wait of waits) this.#addWait(series, taskTags, wait);
    }
    return series.all();
  }

  #addCompletion(series: SeriesCollector, taskTags: string, { state, runTime, worker, exception }: Completion): void {
    const tags = taskTags + this.#workerTag(worker);
    const exceptionTag = this.#options.tagException && state === "FAILURE" ? `,${this.#tags.tag("exception", exception)}` : "";
    series.count(this.#options.prefix + COUNTS[state], tags + exceptionTag, 1);
    if (runTime !== undefined) this.#addTime(series, "task.run_time", `${tags},${this.#tags.tag("state", state)}`, runTime);
  }

  #addWait(series: SeriesCollector, taskTags: string, { seconds, basis, worker }: Wait): void {
    this.#addTime(series, "task.wait_time", `${taskTags}${this.#workerTag(worker)},${this.#tags.tag("basis", basis)}`, seconds);
  }

  #addTime(series: SeriesCollector, name: string, tags: string, seconds: number): void {
    const { type, perSecond } = TIMERS[this.#options.timerType];
    series.sample(this.#options.prefix + name, type, tags, seconds * perSecond);
  }

  #workerTag(worker: string | undefined): string {
    return this.#options.tagWorker ? `,${this.#tags.tag("worker", worker)}` : "";
  }
}
