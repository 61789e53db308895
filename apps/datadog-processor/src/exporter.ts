/**
 * The Datadog exporter: events → Store → metrics of tasks that ended → DogStatsD.
 *
 *   export    merges a batch into the Store, then schedules the tasks it ended, for when the grace is over
 *   process   claims those tasks, sends the metrics of the ones that are complete, and only then marks them as sent; the others are put off
 *
 * Many tasks are sent and marked in parts: a process that has to end stops between two, and the job is given back. When it comes again, the
 * tasks of the parts before count as sent. The job's leases are renewed until all is marked: neither the pace nor the agent's back-pressure
 * has a bound that would fit a lease of every length.
 *
 * A process may die between any two steps. Before `scheduled` the batch runs again and finds its finals unsent; afterwards the job runs
 * again, takes its own leases at once, and sends what was not marked: at most the parts that were being sent go out twice.
 */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import type { Exporter, ProcessingJob, Schedule } from "@celery-metrics-exporter/pipeline";
import { UnavailableError, backoffMs, pause } from "@celery-metrics-exporter/runtime";
import type { Summary, TaskStore } from "@celery-metrics-exporter/task-store";
import type { ExporterMetrics } from "./exporter-metrics.ts";
import { Leases } from "./leases.ts";
import type { TaskMetrics, TaskMetricsMapper } from "./metrics/metrics.ts";
import type { Series } from "./metrics/series.ts";
import type { StatsdClient } from "./agent/statsd-client.ts";
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

type Tasks = readonly (readonly [id: string, summary: Summary])[];

/** Tasks that are sent and marked together. */
interface Part {
  readonly tasks: Tasks;
  /** Without what is too old. */
  readonly metrics: readonly TaskMetrics[];
  readonly series: readonly Series[];
}

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

  async process(ids: readonly string[], signal: AbortSignal, job: ProcessingJob): Promise<number> {
    const { store, incompleteWaitMs, leaseMs } = this.#options;
    const askedAt = performance.now();
    const claims = await store.claim(job.id, ids);
    await this.#reached("claimed");

    const decided = triage(claims, { incompleteWaitMs });
    const { ready, incomplete } = decided;
    const leases = new Leases({ store, jobId: job.id, ids: [...ready.keys(), ...incomplete.keys()], leaseMs, askedAt });
    try {
      const left = await this.#sendInParts([...ready], leases, job, signal);
      await this.#putOff(withBusy(decided, left, leaseMs), job);
      return ready.size;
    } finally {
      await leases.stop();
    }
  }

  async forget(ids: readonly string[]): Promise<void> {
    await this.#options.store.forget(ids);
  }

  async stop(): Promise<void> {
    await this.#unfinished?.stop();
    await this.#options.statsd.close();
  }

  /**
   * Returns the ids of tasks that were not sent, because another job has a lease on them by now.
   *
   * @throws the signal's reason when it is aborted before the last part. What was sent until then is marked.
   */
  async #sendInParts(ready: Tasks, leases: Leases, job: ProcessingJob, signal: AbortSignal): Promise<string[]> {
    const { statsd } = this.#options;
    const left: string[] = [];
    let rest = ready;
    for (let atMost = rest.length; ;) {
      const lost = await leases.lost();
      left.push(...idsOf(rest).filter((id) => lost.has(id)));
      rest = rest.filter(([id]) => !lost.has(id));
      if (rest.length === 0) return left;
      const part = this.#firstPart(rest, atMost);
      await statsd.send(part.series, signal);
      await this.#reached("sent");
      await this.#settle(job, new Map(part.tasks), signal);
      this.#count(part);
      await this.#reached("settled");

      atMost = part.tasks.length * 2;
      rest = rest.slice(part.tasks.length);
    }
  }

  /** As many tasks as fit one sending, but at least one. */
  #firstPart(tasks: Tasks, atMost: number): Part {
    const { mapper, statsd } = this.#options;
    for (let count = atMost; ; count = Math.ceil(count / 2)) {
      const some = tasks.slice(0, count);
      const metrics = some.map(([, summary]) => this.#recent(summary));
      const series = mapper.seriesOf(metrics);
      if (some.length <= 1 || statsd.fitsOneSending(series)) return { tasks: some, metrics, series };
    }
  }

  /** Leaves out what ended too long ago, and waits of a task that has not ended and began too long ago: Datadog would show them as of now. */
  #recent(summary: Summary): TaskMetrics {
    const { maxAgeSeconds } = this.#options;
    if (maxAgeSeconds === 0) return summary;
    const oldest = Date.now() / 1_000 - maxAgeSeconds;
    if (summary.completions.length === 0) return { completions: [], waits: summary.waits.filter(({ startedAt }) => startedAt >= oldest) };
    const completions = summary.completions.filter(({ finishedAt }) => finishedAt >= oldest);
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
    const { store, schedule, metrics, incompleteWaitMs, leaseMs } = this.#options;
    if (incomplete.size > 0) {
      await schedule([...incomplete.keys()], { delayMs: Math.ceil(incompleteWaitMs / LOOKS), putOffBy: job });
      await store.release(job.id, [...incomplete.keys()]);
    }
    await schedule(busy, { delayMs: busyDelayMs(busyForMs, leaseMs), putOffBy: job });
    metrics.putOff([...incomplete.values(), ...busy.map(() => "busy" as const)]);
  }

  /** Once they are marked: tasks that are tried again are counted once. */
  #count({ tasks, metrics: sent }: Part): void {
    const { metrics } = this.#options;
    const summaries = tasks.map(([, summary]) => summary);
    metrics.sent(sent);
    metrics.incomplete(summaries.flatMap(({ lacks }) => lacks ?? []));
    metrics.expired(completionsIn(summaries) - completionsIn(sent));
  }

  async #reached(step: Step): Promise<void> {
    await this.#options.onStep?.(step);
  }
}

function idsOf(tasks: Tasks): string[] {
  return tasks.map(([id]) => id);
}

function completionsIn(tasks: readonly TaskMetrics[]): number {
  return tasks.reduce((sum, { completions }) => sum + completions.length, 0);
}

/** Tasks that another job has claimed meanwhile, a moment ago, are busy like those that it had from the first. */
function withBusy(decided: Triage, ids: readonly string[], leaseMs: number): Triage {
  if (ids.length === 0) return decided;
  return { ...decided, busy: [...decided.busy, ...ids], busyForMs: leaseMs };
}

/**
 * When to look again at what another job holds: after as long as it has been held already, so that a twin that is soon done is soon seen to be,
 * and a holder that died is asked after a few times until its lease ends.
 */
export function busyDelayMs(freeInMs: number, leaseMs: number): number {
  return Math.min(freeInMs + LEASE_MARGIN_MS, Math.max(BUSY_FIRST_MS, leaseMs - freeInMs));
}
