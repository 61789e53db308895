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
 * and `worker` on each (opt-in). A task's id or arguments are never a tag: every combination of tags is a custom metric that costs money.
 */
import type { Completion, FinalState, Labels, Summary, Wait } from "@celery-metrics-exporter/task-store";
import { type MetricType, type Series, SeriesCollector, TagAppender, normaliseTag } from "./series.ts";

type TimerType = "distribution" | "histogram" | "timing";

export interface MetricOptions {
  readonly prefix: string;
  /** Added to every metric. */
  readonly tags: readonly string[];
  readonly timerType: TimerType;
  readonly tagWorker: boolean;
  readonly tagException: boolean;
}

/** The part of a summary that is sent. */
export type TaskMetrics = Pick<Summary, "completions" | "waits">;

/** DogStatsD's `ms` are milliseconds; the other types use seconds. */
const TIMERS: Readonly<Record<TimerType, { type: MetricType; perSecond: number }>> = {
  distribution: { type: "d", perSecond: 1 },
  histogram: { type: "h", perSecond: 1 },
  timing: { type: "ms", perSecond: 1_000 },
};

/** Converts completions and waits into series. */
export class TaskMetricsMapper {
  readonly #options: MetricOptions;
  readonly #counts: Readonly<Record<FinalState, string>>;
  readonly #runTime: string;
  readonly #waitTime: string;
  readonly #queueTag = new TagAppender("queue");
  readonly #nameTag: TagAppender;
  readonly #workerTag = new TagAppender("worker");
  readonly #exceptionTag = new TagAppender("exception");
  readonly #stateTag = new TagAppender("state");
  readonly #basisTag = new TagAppender("basis");

  constructor(options: MetricOptions) {
    this.#options = options;
    const { prefix } = options;
    this.#counts = {
      SUCCESS: `${prefix}task.success_count`,
      FAILURE: `${prefix}task.fail_count`,
      REVOKED: `${prefix}task.revoked_count`,
      REJECTED: `${prefix}task.rejected_count`,
    };
    this.#runTime = `${prefix}task.run_time`;
    this.#waitTime = `${prefix}task.wait_time`;
    const commonTags = [...new Set(options.tags.map(normaliseTag))].filter((tag) => tag !== "");
    this.#nameTag = new TagAppender("task_name", { after: commonTags.map((tag) => `,${tag}`).join("") });
  }

  seriesOf(tasks: readonly TaskMetrics[]): Series[] {
    const series = new SeriesCollector();
    for (const { completions, waits } of tasks) {
      for (const completion of completions) this.#addCompletion(series, completion);
      for (const wait of waits) this.#addWait(series, wait);
    }
    return series.all();
  }

  #addCompletion(series: SeriesCollector, completion: Completion): void {
    const { state, runTime, exception } = completion;
    const tags = this.#tagsOf(completion);
    const isTagged = this.#options.tagException && state === "FAILURE";
    series.count(this.#counts[state], isTagged ? this.#exceptionTag.append(tags, exception) : tags, 1);
    if (runTime !== undefined) this.#addTime(series, this.#runTime, this.#stateTag.append(tags, state), runTime);
  }

  #addWait(series: SeriesCollector, wait: Wait): void {
    this.#addTime(series, this.#waitTime, this.#basisTag.append(this.#tagsOf(wait), wait.basis), wait.seconds);
  }

  #addTime(series: SeriesCollector, name: string, tags: string, seconds: number): void {
    const { type, perSecond } = TIMERS[this.#options.timerType];
    series.sample(name, type, tags, seconds * perSecond);
  }

  #tagsOf({ name, queue, worker }: Labels & { readonly worker: string | undefined }): string {
    const tags = this.#nameTag.append(this.#queueTag.append("", queue), name);
    return this.#options.tagWorker ? this.#workerTag.append(tags, worker) : tags;
  }
}
