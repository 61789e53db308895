/** The families of tasks, under celery-exporter's names, from the counts in Redis. */
import type { Counts, SetCounts } from "@celery-metrics-exporter/task-store";
import { GENERIC_HOSTNAME, type HostnameLabel } from "../counting/counting.ts";
import { CODES, type HistogramFields, MINUTE_SECONDS, readGauge } from "../counting/fields.ts";
import { type Family, type Histogram, type Sample, writeNumber } from "./text.ts";

export interface TaskFamiliesOptions {
  /** Replaces `celery_`. */
  readonly prefix: string;
  readonly runtime: HistogramFields;
  readonly failedRuntime: HistogramFields;
  readonly wait: HistogramFields;
  /** Whether failures carry their exception. */
  readonly exceptionLabel: boolean;
  /** What the label `hostname` says of a worker. */
  readonly hostnameLabel: HostnameLabel;
}

/** What was read from Redis at one time. */
export interface CountsSnapshot {
  /** Their codes are those of `fields.ts`. */
  readonly counts: Counts;
  /** Name, queue and hostname by id. */
  readonly labels: ReadonlyMap<string, readonly string[]>;
  readonly exceptions: ReadonlyMap<string, readonly string[]>;
  /** When the counts of each id began, in seconds since the epoch; empty if that is not shown. */
  readonly created: ReadonlyMap<string, number>;
}

export type Labels = Readonly<Record<string, string>>;

export type CountsByCode = Pick<SetCounts, "get">;

type Codes = Counts["codes"];

/** The counts of one set of labels. */
export interface Series {
  readonly labels: Labels;
  readonly counts: CountsByCode;
  /** When they began, if that is shown. */
  readonly created: number | undefined;
}

const COUNTERS: readonly (readonly [state: Exclude<keyof typeof CODES, "failed">, help: string])[] = [
  ["sent", "Sent when a task message is published."],
  ["received", "Sent when the worker receives a task."],
  ["started", "Sent just before the worker executes the task."],
  ["succeeded", "Sent if the task executed successfully."],
  ["rejected", "The task was rejected by the worker, possibly to be re-queued or moved to a dead letter queue."],
  ["revoked", "Sent if the task has been revoked."],
  ["retried", "Sent if the task failed, but will be retried in the future."],
];

/** In the order of their names. Every state of a label set is shown from its first event on, so that rates see the first one of each. */
export function taskFamilies(snapshot: CountsSnapshot, options: TaskFamiliesOptions): Family[] {
  const { prefix, runtime, failedRuntime, wait } = options;
  const series = seriesOf(snapshot);
  const { codes } = snapshot.counts;
  const ofWorkers = options.hostnameLabel === "generic" ? series : withoutClients(series, codes);
  const counters = COUNTERS.map(([state, help]): Family => ({
    name: `${prefix}task_${state}`,
    type: "counter",
    help,
    get samples() {
      return counted(state === "sent" ? series : ofWorkers, codes.get(CODES[state]));
    },
  }));
  const families: Family[] = [
    ...counters,
    {
      name: `${prefix}task_failed`,
      type: "counter",
      help: "Sent if the execution of the task failed.",
      get samples() {
        return failures(ofWorkers, snapshot, options);
      },
    },
    histogram(series, { name: `${prefix}task_runtime`, help: "Histogram of task runtime measurements.", fields: runtime, codes }),
    histogram(series, {
      name: `${prefix}task_failed_runtime`,
      help: "Run times of failed tasks, from start to failure.",
      fields: failedRuntime,
      codes,
    }),
    histogram(series, {
      name: `${prefix}task_queue_wait_time`,
      help: "Time between a task's sending, or its ETA if that is later, and its start.",
      fields: wait,
      codes,
    }),
  ];
  return families.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** If series carry their worker: without the sets of clients, in which no worker counts. A worker's host may be called like them. */
function withoutClients(series: readonly Series[], codes: Codes): Series[] {
  const { sent: _, failed: __, ...others } = CODES;
  const numbers = [...Object.values(others).map((code) => codes.get(code)), ...failureCodes(codes).map(([, number]) => number)];
  return series.filter(({ labels, counts }) => labels["hostname"] !== GENERIC_HOSTNAME || numbers.some((number) => counts.get(number) > 0));
}

function* counted(series: readonly Series[], code: number | undefined): Generator<Sample> {
  for (const { labels, counts, created } of series) yield { suffix: "_total", labels, value: counts.get(code), created };
}

function seriesOf({ counts: { bySet }, labels, created }: CountsSnapshot): Series[] {
  const series: Series[] = [];
  for (const [id, counts] of bySet) {
    const own = labelsOf(labels.get(id) ?? []);
    if (own !== undefined) series.push({ labels: own, counts, created: created.get(id) });
  }
  const keyOf = ({ labels: { name = "", queue_name = "", hostname = "" } }: Series): string => `${name}\0${queue_name}\0${hostname}`;
  const keyed = series.map((each) => [keyOf(each), each] as const);
  return keyed.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each);
}

/** By the values, which the registry keeps. So the labels of the next scrape are the same objects, and are written already. */
const known = new WeakMap<readonly string[], Labels>();

/** Undefined if the values are not those of a label set. */
function labelsOf(values: readonly string[]): Labels | undefined {
  let labels = known.get(values);
  const [name, queue, hostname] = values;
  if (labels !== undefined || name === undefined || queue === undefined || hostname === undefined) return labels;
  known.set(values, (labels = { name, hostname, queue_name: queue }));
  return labels;
}

/** With an exception of `""` at 0, as celery-exporter has it: so the family exists before the first failure. */
function* failures(
  series: readonly Series[],
  { exceptions, counts: { codes } }: CountsSnapshot,
  { exceptionLabel }: TaskFamiliesOptions,
): Generator<Sample> {
  const numbers = new Map<string, number[]>([["", []]]);
  for (const [code, number] of failureCodes(codes)) {
    const exception = exceptionLabel ? (exceptions.get(code.slice(CODES.failed.length))?.[0] ?? "") : "";
    const others = numbers.get(exception);
    if (others === undefined) numbers.set(exception, [number]);
    else others.push(number);
  }
  const kinds = [...numbers].toSorted(([a], [b]) => (a < b ? -1 : 1));
  for (const { labels, counts, created } of series) {
    for (const [exception, ofException] of kinds) {
      let value = 0;
      for (const number of ofException) value += counts.get(number);
      if (value > 0 || exception === "") yield { suffix: "_total", labels, own: ["exception", exception], value, created };
    }
  }
}

/** Those of failures, with their numbers. */
export function failureCodes(codes: Codes): (readonly [code: string, number: number])[] {
  return [...codes].filter(([code]) => code.startsWith(CODES.failed));
}

export interface HistogramOptions {
  readonly name: string;
  readonly help: string;
  readonly fields: HistogramFields;
  readonly codes: Codes;
}

export function histogram(series: readonly Series[], { name, help, fields, codes }: HistogramOptions): Family {
  const limits = [...fields.limits, Number.POSITIVE_INFINITY];
  const written = limits.map(leOf);
  const buckets = limits.map((_, index) => codes.get(fields.bucket(index)));
  return {
    name,
    type: "histogram",
    help,
    get samples() {
      return observed(series, written, buckets, codes.get(fields.sum));
    },
  };
}

function* observed(
  series: readonly Series[],
  limits: readonly string[],
  buckets: readonly (number | undefined)[],
  sum: number | undefined,
): Generator<Histogram> {
  const below = new Float64Array(buckets.length);
  for (const { labels, counts, created } of series) {
    let all = 0;
    for (let index = 0; index < buckets.length; index += 1) below[index] = all += counts.get(buckets[index]);
    if (all > 0) yield { labels, limits, counts: below, sum: counts.get(sum) / 1e6, created };
  }
}

/** A limit as the Python client writes it. */
function leOf(limit: number): string {
  return limit === Number.POSITIVE_INFINITY ? "+Inf" : writeNumber(limit);
}

/** Since when the oldest message of each queue waits, in seconds since the epoch: the middle of the minute that is known. */
export function oldestWaiting({ counts: { gauges }, labels }: CountsSnapshot): Map<string, number> {
  const oldest = new Map<string, number>();
  for (const { set, code } of gauges) {
    const gauge = readGauge(code);
    if (gauge?.state !== "waiting") continue;
    const since = gauge.since + MINUTE_SECONDS / 2;
    const [, queue] = labels.get(set) ?? [];
    if (queue !== undefined && since < (oldest.get(queue) ?? Number.POSITIVE_INFINITY)) oldest.set(queue, since);
  }
  return oldest;
}
