/** The families of workers and queues: celery-exporter's, and what it does not have. */
import type { ObservedWorker } from "@celery-metrics-exporter/celery";
import { type Watched, type WorkerState, consumersByQueue, isUp } from "@celery-metrics-exporter/task-store";
import type { Family, Sample } from "./text.ts";

export interface WatchedFamiliesOptions {
  /** Replaces `celery_`. */
  readonly prefix: string;
  /** How long a worker that is not heard counts as up, in seconds. */
  readonly workerTimeoutSeconds: number;
  /** Show the length of each queue by priority too. */
  readonly queuePriorities: boolean;
}

type Labels = Readonly<Record<string, string>>;
type Value = readonly [labels: Labels, value: number | undefined];

/** @param now in seconds since the epoch. */
export function watchedFamilies(watched: Watched, options: WatchedFamiliesOptions, now: number): Family[] {
  const { prefix, workerTimeoutSeconds, queuePriorities } = options;
  const { queues, workers: observed, states, waitingSince } = watched;
  const gauge = (name: string, help: string, values: readonly Value[]): Family => ({
    name: `${prefix}${name}`,
    type: "gauge",
    help,
    samples: samplesOf("", values),
  });
  const ofStates = (valueOf: (state: WorkerState) => number | undefined): Value[] =>
    states.map((state) => [labelsOf(state.worker), valueOf(state)]);
  // Workers may share a name, which Celery forbids but does not prevent. Prometheus takes a series only once.
  const ofObserved = (valueOf: (worker: ObservedWorker) => number | undefined, combine: (a: number, b: number) => number): Value[] => {
    const byName = new Map<string, number>();
    for (const worker of observed?.workers ?? []) {
      const [value, before] = [valueOf(worker), byName.get(worker.hostname)];
      if (value !== undefined) byName.set(worker.hostname, before === undefined ? value : combine(before, value));
    }
    return [...byName].map(([name, value]) => [labelsOf(name), value]);
  };
  /** Undefined if it is not known whether the worker is up. Then it has no sample. */
  const whileUp = (state: WorkerState, value: number): number | undefined => {
    const isHeard = isUp(state, workerTimeoutSeconds, now);
    return isHeard === undefined ? undefined : Number(isHeard) * value;
  };
  const lengths = queues?.queues ?? [];
  const consumers = consumersByQueue(observed?.workers ?? []);
  // As in celery-exporter: a queue that no worker consumes from is 0, so that an autoscaler sees it.
  if (observed !== undefined) for (const { name } of lengths) if (!consumers.has(name)) consumers.set(name, { workers: 0, processes: 0 });
  const waiting = new Map([...waitingSince].map(([name, since]) => [name, Math.max(now - since, 0)]));
  // Messages may have been purged or have expired, of which no event tells.
  for (const { name, messages } of lengths) if (messages === 0) waiting.set(name, 0);
  return [
    gauge(
      "worker_up",
      "Whether the worker is online and has sent a heartbeat recently.",
      ofStates((state) => whileUp(state, 1)),
    ),
    gauge(
      "worker_tasks_active",
      "Tasks that the worker is running.",
      ofStates((state) => whileUp(state, state.active ?? 0)),
    ),
    {
      name: `${prefix}worker_processed`,
      type: "counter",
      help: "Tasks that the worker has processed since it started.",
      samples: samplesOf(
        "_total",
        ofStates(({ processed }) => processed),
      ),
    },
    gauge(
      "worker_last_heartbeat_timestamp_seconds",
      "When the worker sent its last heartbeat, by its own clock.",
      ofStates(({ heartbeatAt }) => heartbeatAt),
    ),
    gauge(
      "worker_info",
      "The worker's version of Celery.",
      states.flatMap(({ worker, version }): Value[] => (version === undefined ? [] : [[{ ...labelsOf(worker), version }, 1]])),
    ),
    gauge(
      "worker_concurrency",
      "Processes or threads that run the worker's tasks.",
      ofObserved(({ concurrency }) => concurrency, sum),
    ),
    gauge(
      "worker_prefetch_count",
      "Messages that the worker may prefetch.",
      ofObserved(({ prefetchCount }) => prefetchCount, sum),
    ),
    gauge(
      "worker_uptime_seconds",
      "Time since the worker started.",
      ofObserved(
        ({ uptime }) => uptime,
        (a, b) => Math.min(a, b),
      ),
    ),
    gauge(
      "queue_length",
      "Messages in the queue that no worker has taken.",
      lengths.map(({ name, messages }) => [{ queue_name: name }, messages]),
    ),
    // Not a label of `queue_length`, whose sum is the number of messages.
    ...(queuePriorities
      ? [gauge("queue_length_by_priority", "Messages in the queue, by priority (Redis only).", lengthsByPriority(queues))]
      : []),
    gauge(
      "active_consumer_count",
      "Consumers of the queue, as the broker counts them.",
      lengths.map(({ name, consumers: count }) => [{ queue_name: name }, count]),
    ),
    gauge(
      "active_worker_count",
      "Workers that consume from the queue.",
      [...consumers].map(([name, { workers }]) => [{ queue_name: name }, workers]),
    ),
    gauge(
      "active_process_count",
      "Processes or threads of the workers that consume from the queue.",
      [...consumers].map(([name, { processes }]) => [{ queue_name: name }, processes]),
    ),
    gauge(
      "queue_oldest_waiting_seconds",
      "How long the oldest message of the queue has waited for a worker, to within half a minute.",
      [...waiting].map(([name, age]) => [{ queue_name: name }, age]),
    ),
    gauge("broker_unacked", "Messages that workers have taken and not acknowledged (Redis only).", [[{}, queues?.unacked?.messages]]),
    gauge("broker_unacked_oldest_age_seconds", "Time since a worker took the oldest message that is not acknowledged (Redis only).", [
      [{}, queues?.unacked?.oldestAt === undefined ? undefined : Math.max(now - queues.unacked.oldestAt, 0)],
    ]),
  ];
}

/** Priorities without messages are unknown, except 0. RabbitMQ does not tell the priorities. */
function lengthsByPriority(observed: Watched["queues"]): Value[] {
  if (observed?.broker !== "redis") return [];
  return observed.queues.flatMap(({ name, messages, byPriority: lengths = { 0: messages } }) =>
    Object.entries({ 0: 0, ...lengths }).map(([priority, length]): Value => [{ queue_name: name, priority }, length]),
  );
}

function sum(a: number, b: number): number {
  return a + b;
}

function samplesOf(suffix: string, values: readonly Value[]): Sample[] {
  return values.flatMap(([labels, value]) => (value === undefined ? [] : [{ suffix, labels, value }]));
}

/** The host alone, as in celery-exporter, and the whole name, because a host may have several workers. */
function labelsOf(worker: string): Labels {
  return { hostname: worker.slice(worker.indexOf("@") + 1), worker };
}
