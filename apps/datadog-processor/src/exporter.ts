/**
 * The Datadog exporter: events → Store → metrics of tasks that ended → DogStatsD.
 *
 *   export    merges a batch into the Store, then schedules the tasks it ended, for when the grace is over
 *   process   claims those tasks, sends the metrics of the ones that are complete, and only then marks them as sent; the others are put off
 *
 * A process may die between any two steps. Before `scheduled` the batch runs again and finds its finals unsent; afterwards the job runs
 * again, takes its own leases at once, and sends what was not marked: at most the tasks of the jobs that were in hand go out twice.
 */
import type { CeleryEvent } from "@celery-metrics-exporter/events";
import type { Exporter, ProcessingJob, Schedule } from "@celery-metrics-exporter/pipeline";
import { UnavailableError, backoffMs, pause } from "@celery-metrics-exporter/runtime";
import type { Summary, TaskStore } from "@celery-metrics-exporter/task-store";
import type { ExporterMetrics } from "./exporter-metrics.ts";
import type { TaskMetrics, TaskMetricsMapper } from "./metrics.ts";
import type { StatsdClient } from "./statsd-client.ts";
import { triage, type Triage } from "./triage.ts";
import type { UnfinishedTasks } from "./unfinished-tasks.ts";

/** The steps after which a process may be killed without loss; tests do. */
export type Step = "merged" | "scheduled" | "claimed" | "sent" | "settled";

export interface DatadogExporterOptions {
  readonly store: TaskStore;
  readonly statsd: StatsdClient;
  readonly mapper: TaskMetricsMapper;
  readonly schedule: Schedule;
  readonly metrics: ExporterMetrics;
  /** Begins to count them. */
  readonly countUnfinished: () => UnfinishedTasks;
  readonly graceMs: number;
  readonly incompleteWaitMs: number;
  readonly leaseMs: number;
  /** 0: no limit. */
  readonly maxAgeSeconds: number;
  /** Called after each step. Only tests set it. */
  readonly onStep?: (step: Step) => void | Promise<void>;
}

/** An incomplete task is looked at this many times before it is sent as it is. */
const LOOKS = 6;

/** Between tries to mark tasks as sent: until it works, whoever takes the job over would send them again. */
const SETTLE_RETRY = { maxMs: 500 };

/** Clocks and timers are not exact: what is busy is looked at a little after its lease has ended. */
const LEASE_MARGIN_MS = 50;
/** What is busy is most often done in a moment, by the twin of this job. */
const BUSY_FIRST_MS = 250;

export class DatadogExporter implements Exporter {
  readonly #options: DatadogExporterOptions;
  #unfinished: UnfinishedTasks | undefined;

  constructor(options: DatadogExporterOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    this.#unfinished = this.#options.countUnfinished();
  }

  async export(events: readonly CeleryEvent[]): Promise<void> {
    const { store, schedule, graceMs } = this.#options;
    const ended = await store.apply(events);
    await this.#reached("merged");
    await schedule(ended, { delayMs: graceMs });
    await this.#reached("scheduled");
  }

  async process(ids: readonly string[], signal: AbortSignal, job: ProcessingJob): Promise<void> {
    const { store, statsd, mapper, incompleteWaitMs } = this.#options;
    const claims = await store.claim(job.id, ids);
    await this.#reached("claimed");

    const decided = triage(claims, { incompleteWaitMs });
    const tasks = [...decided.ready.values()].map((summary) => this.#recent(summary));
    await statsd.send(mapper.seriesOf(tasks));
    await this.#reached("sent");

    await this.#settle(job, decided.ready, signal);
    this.#count(decided, tasks);
    await this.#reached("settled");
    await this.#putOff(decided, job);
  }

  async forget(ids: readonly string[]): Promise<void> {
    await this.#options.store.forget(ids);
  }

  async stop(): Promise<void> {
    await this.#unfinished?.stop();
    await this.#options.statsd.close();
  }

  /** Leaves out what ended too long ago, and waits of a task that has not ended and began too long ago: Datadog would show them as of now. */
  #recent(summary: Summary): TaskMetrics {
    const { maxAgeSeconds, metrics } = this.#options;
    if (maxAgeSeconds === 0) return summary;
    const oldest = Date.now() / 1_000 - maxAgeSeconds;
    if (summary.completions.length === 0) return { completions: [], waits: summary.waits.filter(({ startedAt }) => startedAt >= oldest) };
    const completions = summary.completions.filter(({ finishedAt }) => finishedAt >= oldest);
    metrics.expired(summary.completions.length - completions.length);
    return { completions, waits: completions.length === 0 ? [] : summary.waits };
  }

  /** Tried again here and not by the host, which would send everything again first. */
  async #settle(job: ProcessingJob, ready: ReadonlyMap<string, Summary>, signal: AbortSignal): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#options.store.settle(job.id, ready);
      } catch (thrown) {
        if (!(thrown instanceof UnavailableError) || signal.aborted) throw thrown;
        await pause(backoffMs(attempt, SETTLE_RETRY), signal);
      }
    }
  }

  /** Afterwards, so that a job that is tried again because the agent is away is not put off again each time. */
  async #putOff({ incomplete, busy, busyForMs }: Triage, job: ProcessingJob): Promise<void> {
    const { store, schedule, incompleteWaitMs, leaseMs } = this.#options;
    if (incomplete.size > 0) {
      await schedule([...incomplete.keys()], { delayMs: Math.ceil(incompleteWaitMs / LOOKS), putOffBy: job });
      await store.release(job.id, [...incomplete.keys()]);
    }
    await schedule(busy, { delayMs: busyDelayMs(busyForMs, leaseMs), putOffBy: job });
  }

  #count({ ready, incomplete, busy }: Triage, tasks: readonly TaskMetrics[]): void {
    const { metrics } = this.#options;
    metrics.sent(tasks);
    metrics.incomplete([...ready.values()].flatMap(({ lacks }) => lacks ?? []));
    metrics.putOff([...incomplete.values(), ...busy.map(() => "busy" as const)]);
  }

  async #reached(step: Step): Promise<void> {
    await this.#options.onStep?.(step);
  }
}

/**
 * When to look again at what another job holds: after as long as it has been held already, so that a twin that is soon done is soon seen to be,
 * and a holder that died is asked after a few times until its lease ends.
 */
export function busyDelayMs(freeInMs: number, leaseMs: number): number {
  return Math.min(freeInMs + LEASE_MARGIN_MS, Math.max(BUSY_FIRST_MS, leaseMs - freeInMs));
}
