/** What the active monitor does: counts Celery's queues, asks the workers, and publishes what it observes. */
import type { Broker, QueueLengths } from "@celery-metrics-exporter/broker";
import type { Observation } from "@celery-metrics-exporter/celery";
import type { Answers } from "@celery-metrics-exporter/control";
import type { KnownQueues } from "@celery-metrics-exporter/pipeline";
import type { Logger, Metrics } from "@celery-metrics-exporter/runtime";
import { observedWorkers } from "./workers.ts";

export interface MonitorOptions {
  readonly broker: Broker;
  /** Queues to count in any case. */
  readonly queues: readonly string[];
  readonly known: KnownQueues;
  /** Reads the lengths of queues. */
  readonly count: (names: readonly string[]) => Promise<QueueLengths>;
  /** Asks all workers by remote control. */
  readonly ask: (method: Method, signal: AbortSignal) => Promise<Answers>;
  /** Switch on the task events of workers that send none. */
  readonly enableEvents: boolean;
  /** Passes observations to the exporters. */
  readonly publish: (observations: readonly Observation[]) => Promise<void>;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

type Method = "stats" | "active_queues" | "enable_events";

/** The reply of a worker that sent no task events (celery/worker/control.py). Others reply that they do already. */
const EVENTS_ENABLED = "task events enabled";

/** Limit on refused queues and unreadable replies that are remembered as logged. */
const MAX_TOLD = 1_000;

export class Monitor {
  readonly #options: MonitorOptions;
  readonly #known;
  readonly #refused;
  readonly #answered;
  readonly #unreadable;
  readonly #errors;
  readonly #enabled;
  readonly #duplicates;
  readonly #told = new Set<string>();

  constructor(options: MonitorOptions) {
    this.#options = options;
    const { metrics } = options;
    this.#known = metrics.gauge("monitor_queues", "Celery's queues that the monitor looks for.");
    this.#refused = metrics.gauge("monitor_queues_refused", "Queues that the broker did not let the monitor count the last time.");
    this.#answered = metrics.gauge("monitor_workers", "Workers that answered the last time.");
    this.#unreadable = metrics.counter("monitor_replies_unreadable_total", "Replies of workers that could not be read, by reason.", {
      reason: ["body", "content_encoding", "content_type", "not_a_reply", "pickle", "too_large"],
    });
    this.#errors = metrics.counter("monitor_replies_errors_total", "Questions that workers answered with an error.", {
      method: ["stats", "active_queues", "enable_events"],
    });
    this.#enabled = metrics.counter("monitor_events_enabled_total", "Times the monitor switched on the task events of a worker.");
    this.#duplicates = metrics.gauge("monitor_workers_duplicate", "Node names that several workers used the last time.");
  }

  /** @throws {Error} if the broker or Redis does not answer. */
  async countQueues(): Promise<void> {
    const { broker, queues: configured, known, count, publish } = this.#options;
    const names = [...new Set([...configured, ...(await known.names())])];
    const timestamp = Date.now() / 1_000;
    const { queues, unacked, refused } = await count(names);
    this.#known.set(names.length);
    this.#refused.set(refused.length);
    for (const { name, reason } of refused) {
      this.#tell(`refused ${name}`, { queue: name, reason }, "the broker does not let the monitor count a queue");
    }
    await publish([{ type: "queues-observed", timestamp, broker, queues, ...(unacked !== undefined && { unacked }) }]);
    // Messages may wait for longer than a name without a worker is remembered.
    await known.remember(queues.filter(({ messages }) => messages > 0).map(({ name }) => name));
  }

  /** @throws {Error} if the broker or Redis does not answer, but not if workers do not. */
  async askWorkers(signal: AbortSignal): Promise<void> {
    const { known, ask, publish } = this.#options;
    const timestamp = Date.now() / 1_000;
    const [stats, activeQueues] = await Promise.all([ask("stats", signal), ask("active_queues", signal), this.#enableEvents(signal)]);
    const workers = observedWorkers(stats, activeQueues);
    this.#answered.set(workers.length);
    this.#note("stats", stats);
    this.#note("active_queues", activeQueues);
    const duplicates = [...new Set([...stats.duplicates, ...activeQueues.duplicates])];
    this.#duplicates.set(duplicates.length);
    for (const hostname of duplicates) this.#tell(`twice ${hostname}`, { worker: hostname }, "several workers have the same node name");
    await publish([{ type: "workers-observed", timestamp, workers }]);
    await known.remember(workers.flatMap(({ queues = [] }) => queues));
  }

  /**
   * Nothing else tells which workers send no task events, and one that has restarted sends none again. So all of them are told every time. Those that
   * send them do nothing.
   */
  async #enableEvents(signal: AbortSignal): Promise<void> {
    const { enableEvents, ask, logger } = this.#options;
    if (!enableEvents) return;
    const answers = await ask("enable_events", signal);
    this.#note("enable_events", answers);
    for (const [worker, replies] of answers.replies) {
      const enabled = replies.filter((reply) => isOk(reply, EVENTS_ENABLED)).length;
      if (enabled === 0) continue;
      this.#enabled.inc(enabled);
      logger.info({ worker }, "switched on the task events of a worker, until it restarts");
    }
  }

  #note(method: Method, { errors, unreadable }: Answers): void {
    for (const { reason, detail } of unreadable) {
      this.#unreadable.inc({ reason });
      // The reply does not tell which worker sent it, unless it can be read.
      this.#tell(`unreadable ${reason}`, { reason, detail }, "cannot read the reply of a worker");
    }
    for (const [hostname, texts] of errors) {
      this.#errors.inc({ method }, texts.length);
      this.#tell(`${method} ${hostname}`, { worker: hostname, method, reason: texts[0] }, "a worker answered with an error");
    }
  }

  /** Warns once. */
  #tell(key: string, fields: Readonly<Record<string, unknown>>, message: string): void {
    if (this.#told.has(key) || this.#told.size >= MAX_TOLD) return;
    this.#told.add(key);
    this.#options.logger.warn(fields, message);
  }
}

function isOk(reply: unknown, text: string): boolean {
  return typeof reply === "object" && reply !== null && "ok" in reply && reply.ok === text;
}
