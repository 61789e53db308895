/**
 * The metrics of tasks. Every name begins with the prefix, `celery.` by default.
 *
 *   task.wait_time       distribution, seconds  queue, task_name, basis (`sent`, `received`)    one value per attempt
 *   task.run_time        distribution, seconds  queue, task_name, state (`success`, `failure`)  one value per run that succeeded or failed
 *   task.success_count   count                  queue, task_name
 *   task.fail_count      count                  queue, task_name, exception (opt-in)
 *   task.revoked_count   count                  queue, task_name
 *   task.rejected_count  count                  queue, task_name
 *   task.retry_count     count                  queue, task_name                                one for each retry
 *
 * and `worker` on each (opt-in). A task's id or arguments are never a tag: every combination of tags is a custom metric that costs money.
 */
import type { Completion, FinalState, Labels, Summary, Wait } from "@celery-metrics-exporter/task-store";

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
export type TaskMetrics = Pick<Summary, "completions" | "waits" | "retries">;

/** DogStatsD's `ms` are milliseconds; the other types use seconds. */
const TIMERS: Readonly<Record<TimerType, { type: SampleType; perSecond: number }>> = {
  distribution: { type: "d", perSecond: 1 },
  histogram: { type: "h", perSecond: 1 },
  timing: { type: "ms", perSecond: 1_000 },
};

/** Converts completions, waits and retries into series. */
export class TaskMetricsMapper {
  readonly #options: MetricOptions;
  readonly #counts: Readonly<Record<FinalState, string>>;
  readonly #runTime: string;
  readonly #waitTime: string;
  readonly #retryCount: string;
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
    this.#retryCount = `${prefix}task.retry_count`;
    const common = commonTags(options.tags);
    this.#nameTag = new TagAppender("task_name", { after: common === "" ? "" : `,${common}` });
  }

  seriesOf(tasks: readonly TaskMetrics[]): Series[] {
    const series = new SeriesCollector();
    for (const { completions, waits, retries } of tasks) {
      for (const completion of completions) this.#addCompletion(series, completion);
      for (const wait of waits) this.#addWait(series, wait);
      for (const retry of retries) series.count(this.#retryCount, this.#tagsOf(retry), 1);
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

// The input of DogStatsD: values of one metric with one set of tags.

/** DogStatsD's type letters: distribution, histogram, timing. */
type SampleType = "d" | "h" | "ms";
/** Also count and gauge. */
export type MetricType = SampleType | "c" | "g";

export interface Series {
  readonly name: string;
  readonly type: MetricType;
  /** Normalised and joined by commas. */
  readonly tags: string;
  /** A count has one value, the sum; a gauge has one too. */
  readonly values: readonly number[];
}

interface OpenSeries extends Series {
  readonly values: number[];
}

/** Groups values by metric and tags, so that each series is sent once. */
export class SeriesCollector {
  readonly #metrics = new Map<string, Map<string, OpenSeries>>();

  /** Adds to a count. */
  count(name: string, tags: string, by: number): void {
    const { values } = this.#of(name, "c", tags);
    values[0] = (values[0] ?? 0) + by;
  }

  /** Sets a gauge. If it is set already, `combine` decides; by default, the last value counts. */
  gauge(name: string, tags: string, value: number, combine: (before: number, value: number) => number = (_, last) => last): void {
    const { values } = this.#of(name, "g", tags);
    values[0] = values[0] === undefined ? value : combine(values[0], value);
  }

  /** Adds a sample. */
  sample(name: string, type: SampleType, tags: string, value: number): void {
    this.#of(name, type, tags).values.push(value);
  }

  /** Merges a series into the one with the same name and tags. */
  addAll({ name, type, tags, values }: Series): void {
    if (type === "c") for (const value of values) this.count(name, tags, value);
    else if (type === "g") for (const value of values) this.gauge(name, tags, value);
    else for (const value of values) this.sample(name, type, tags, value);
  }

  all(): Series[] {
    return [...this.#metrics.values()].flatMap((series) => [...series.values()]);
  }

  #of(name: string, type: MetricType, tags: string): OpenSeries {
    let metric = this.#metrics.get(name);
    if (metric === undefined) {
      metric = new Map();
      this.#metrics.set(name, metric);
    }
    let series = metric.get(tags);
    if (series === undefined) {
      series = { name, type, tags, values: [] };
      metric.set(tags, series);
    }
    return series;
  }
}

// Tags are normalised as Datadog does it, so that Datadog shows them as they were sent.

/** Datadog cuts tags at 200 characters. This counts bytes, to bound the size of a line. */
const MAX_TAG_BYTES = 200;

/**
 * Converts to lower case; replaces everything except letters, digits and `_-:./` by `_`; cuts at 200 bytes; removes leading characters that
 * are not letters and trailing colons (docs.datadoghq.com/getting_started/tagging). Returns an empty string if nothing is left.
 */
export function normaliseTag(tag: string): string {
  const text = tag
    .toLowerCase()
    .replace(/[^\p{L}\p{N}_\-:./]/gu, "_")
    .replace(/^[^\p{L}]+/u, "")
    .replace(/:+$/, "_");
  return Buffer.byteLength(text) <= MAX_TAG_BYTES ? text : cut(text);
}

/** The tags of the settings, normalised, each once, joined by commas. */
export function commonTags(tags: readonly string[]): string {
  return [...new Set(tags.map(normaliseTag))].filter((tag) => tag !== "").join(",");
}

function cut(text: string): string {
  let size = 0;
  let end = 0;
  for (const character of text) {
    size += Buffer.byteLength(character);
    if (size > MAX_TAG_BYTES) break;
    end += character.length;
  }
  return text.slice(0, end);
}

/** Enough for 10,000 combinations of typical names. */
const MAX_CHARACTERS = 1_000_000;

/**
 * Appends a tag to others, and caches the result. There are few combinations, and every task needs them. If a text is the same string object
 * each time, and not built anew, the map finds it without reading its characters. The cache is bounded by its size, because clients may
 * keep inventing new values.
 */
export class TagAppender {
  readonly #key: string;
  readonly #after: string;
  readonly #maxCharacters: number;
  readonly #outcomes = new Map<string, Map<string, string>>();
  #characters = 0;

  /** @param after text after every tag, including the comma. */
  constructor(key: string, { after = "", maxCharacters = MAX_CHARACTERS } = {}) {
    this.#key = key;
    this.#after = after;
    this.#maxCharacters = maxCharacters;
  }

  /** The tags followed by `key:value`, normalised; `unknown` if there is no value. */
  append(tags: string, value = ""): string {
    const known = this.#outcomes.get(tags)?.get(value);
    if (known !== undefined) return known;
    const tag = normaliseTag(`${this.#key}:${value === "" ? "unknown" : value}`);
    const outcome = `${tags === "" ? "" : `${tags},`}${tag}${this.#after}`;
    this.#remember(tags, value, outcome);
    return outcome;
  }

  #remember(tags: string, value: string, outcome: string): void {
    if (this.#characters >= this.#maxCharacters) {
      this.#outcomes.clear();
      this.#characters = 0;
    }
    this.#characters += tags.length + value.length + outcome.length;
    const others = this.#outcomes.get(tags);
    if (others === undefined) this.#outcomes.set(tags, new Map([[value, outcome]]));
    else others.set(value, outcome);
  }
}
