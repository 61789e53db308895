/** The families of Flower, under its names. What differs from Flower's is in `docs/prometheus.md`. */
import { type HostnameLabel, OTHER, hostnameValue } from "../counting/counting.ts";
import { CODES, PREFETCH, readGauge } from "../counting/fields.ts";
import type { HistogramFields } from "../counting/fields.ts";
import { type Counts, type WorkerState, isUp } from "@celery-metrics-exporter/task-store";
import { type CountsByCode, type CountsSnapshot, type Labels, type Series, failureCodes, histogram } from "./task-families.ts";
import type { Family, Sample } from "./text.ts";

export interface FlowerFamiliesOptions {
  readonly runtime: HistogramFields;
  /** What the counts know of a worker. */
  readonly hostnameLabel: HostnameLabel;
  /** How long a worker that is not heard counts as up, in seconds. */
  readonly workerTimeoutSeconds: number;
}

export interface FlowerSnapshot extends CountsSnapshot {
  readonly states: readonly WorkerState[];
}

/** The counts of one worker and task, of all queues. */
interface WorkerTask extends Series {
  readonly labels: Labels & { readonly worker: string; readonly task: string };
}

const KINDS = Object.keys(CODES).toSorted() as (keyof typeof CODES)[];

/** What a scrape saw before, for means over the time since. */
interface Earlier {
  readonly at: number;
  readonly prefetch: ReadonlyMap<string, { readonly count: number; readonly sum: number }>;
}

/** Over how much time the mean goes, and how often its beginning moves on. In seconds. */
const MEAN_SECONDS = 60;
const STEP_SECONDS = 15;

export class FlowerFamilies {
  readonly #options: FlowerFamiliesOptions;
  /** In order, the first of them at least `MEAN_SECONDS` old, if there is such a one. */
  #earlier: Earlier[] = [];

  constructor(options: FlowerFamiliesOptions) {
    this.#options = options;
  }

  /** Another process shows the series now. */
  clear(): void {
    this.#earlier = [];
  }

  /** @param now in seconds since the epoch. */
  families(snapshot: FlowerSnapshot, now: number): Family[] {
    const { runtime, workerTimeoutSeconds } = this.#options;
    const series = byWorkerAndTask(snapshot);
    const { codes } = snapshot.counts;
    const ofReceived = codes.get(CODES.received);
    const received = series.filter(({ counts }) => counts.get(ofReceived) > 0);
    const workers = snapshot.states.map((state) => ({ ...state, isUp: isUp(state, workerTimeoutSeconds, now) }));
    const known = workers.filter((state) => state.isUp !== undefined);
    const isGone = this.#isGone(workers.flatMap((state) => (state.isUp === false ? [] : [state.worker])));
    const prefetched = prefetchedMessages(snapshot);
    return [
      {
        name: "flower_events",
        type: "counter",
        help: "Number of events.",
        get samples() {
          return events(series, codes);
        },
      },
      histogram(series, { name: "flower_task_runtime_seconds", help: "Run times of successful tasks.", fields: runtime, codes }),
      gauge(
        "task_prefetch_time_seconds",
        `Mean time in the worker's memory of the tasks that started in the last ${MEAN_SECONDS} s, 0 if none did.`,
        this.#prefetchTimes(received, codes, now),
      ),
      gauge(
        "worker_prefetched_tasks",
        "Tasks in the worker's memory that have not started.",
        received.map(({ labels }) => {
          return [labels, isGone(labels.worker) ? 0 : (prefetched.get(keyOf(labels.worker, labels.task)) ?? 0)];
        }),
      ),
      gauge(
        "worker_online",
        "Whether the worker is online and has sent a heartbeat recently.",
        known.map((state) => [{ worker: state.worker }, state.isUp ? 1 : 0]),
      ),
      gauge(
        "worker_number_of_currently_executing_tasks",
        "Tasks that the worker is running.",
        known.map((state) => [{ worker: state.worker }, state.isUp ? (state.active ?? 0) : 0]),
      ),
    ];
  }

  /** By the label `worker`, whether no such worker is up. Then nothing is in its memory, whatever its last event was. */
  #isGone(up: readonly string[]): (label: string) => boolean {
    const { hostnameLabel } = this.#options;
    if (hostnameLabel === "generic") return () => false;
    const labels = new Set([OTHER, ...up.map((worker) => hostnameValue(worker, hostnameLabel))]);
    return (label) => !labels.has(label);
  }

  /** None the first time: then nothing is known of the time before. */
  #prefetchTimes(series: readonly WorkerTask[], codes: Counts["codes"], now: number): (readonly [Labels, number])[] {
    const [ofCount, ofSum] = [codes.get(PREFETCH.count), codes.get(PREFETCH.sum)];
    const current = new Map(
      series.map(({ labels, counts }) => [keyOf(labels.worker, labels.task), { count: counts.get(ofCount), sum: counts.get(ofSum) }]),
    );
    while ((this.#earlier[1]?.at ?? now) <= now - MEAN_SECONDS) this.#earlier.shift();
    const [base] = this.#earlier;
    if (now - (this.#earlier.at(-1)?.at ?? 0) >= STEP_SECONDS) this.#earlier.push({ at: now, prefetch: current });
    if (base === undefined) return [];
    return series.map(({ labels }) => {
      const key = keyOf(labels.worker, labels.task);
      const { count: countThen, sum: sumThen } = base.prefetch.get(key) ?? { count: 0, sum: 0 };
      const { count, sum } = current.get(key) ?? { count: 0, sum: 0 };
      return [labels, count > countThen ? Math.max(sum - sumThen, 0) / (count - countThen) / 1e6 : 0];
    });
  }
}

function gauge(name: string, help: string, samples: readonly (readonly [Labels, number])[]): Family {
  return { name: `flower_${name}`, type: "gauge", help, samples: samples.map(([labels, value]) => ({ suffix: "", labels, value })) };
}

function keyOf(worker: string, task: string): string {
  return `${worker}\0${task}`;
}

function byWorkerAndTask({ counts: { bySet }, labels, created }: FlowerSnapshot): WorkerTask[] {
  const merged = new Map<string, { worker: string; task: string; parts: CountsByCode[]; created: number | undefined }>();
  for (const [id, counts] of bySet) {
    const [task, , worker] = labels.get(id) ?? [];
    if (task === undefined || worker === undefined) continue;
    const key = keyOf(worker, task);
    const entry = merged.get(key);
    if (entry === undefined) {
      merged.set(key, { worker, task, parts: [counts], created: created.get(id) });
      continue;
    }
    entry.parts.push(counts);
    // The sum has been 0 until the first of them began.
    entry.created = earliest(entry.created, created.get(id));
  }
  return [...merged]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([, { worker, task, parts, created: at }]) => ({ labels: { worker, task }, counts: sumOf(parts), created: at }));
}

function sumOf(parts: readonly CountsByCode[]): CountsByCode {
  return { get: (code) => parts.reduce((sum, counts) => sum + counts.get(code), 0) };
}

function earliest(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? undefined : Math.min(one, other);
}

/** All types of a worker and task appear together, so that rates see the first event of each. */
function events(series: readonly WorkerTask[], codes: Counts["codes"]): Sample[] {
  const types = KINDS.map((kind) => {
    const numbers = kind === "failed" ? failureCodes(codes).map(([, number]) => number) : [codes.get(CODES[kind])];
    return { own: ["type", `task-${kind}`] as const, numbers };
  });
  return series.flatMap(({ labels, counts, created }) =>
    types.map(({ own, numbers }) => {
      return { suffix: "_total", labels, own, value: numbers.reduce((sum: number, number) => sum + counts.get(number), 0), created };
    }),
  );
}

function prefetchedMessages({ counts: { gauges }, labels }: FlowerSnapshot): Map<string, number> {
  const messages = new Map<string, number>();
  for (const { set, code, count } of gauges) {
    if (readGauge(code)?.state !== "prefetched") continue;
    const [task, , worker] = labels.get(set) ?? [];
    if (task === undefined || worker === undefined) continue;
    const key = keyOf(worker, task);
    messages.set(key, (messages.get(key) ?? 0) + count);
  }
  return messages;
}
