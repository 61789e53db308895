/**
 * Feeds a sink with summaries of finished tasks: events → Store → summaries → sink. An exporter of finished tasks consists of this and a
 * sink.
 *
 *   export    merges a batch into the Store, then schedules the tasks that it ended or retried for processing after the grace
 *   process   claims those tasks, reports the complete ones, and only then settles them; puts the others off
 *
 * Many tasks are reported and settled in parts. A process that has to exit stops between two parts, and the job goes back to its queue.
 * When the job runs again, the tasks of the earlier parts count as reported. The job's leases are renewed until everything is settled,
 * because reporting may take longer than any lease.
 *
 * A process may die between any two steps. Before `scheduled`, the batch runs again and finds its finals unreported. Afterwards, the job
 * runs again, takes its own leases at once, and reports what was not settled. At most the part in progress is reported twice.
 */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { type Logger, Repeat, UnavailableError, retry } from "@celery-metrics-exporter/runtime";
import { LACKS, type Missing, type Summary, missingFrom } from "../completions/summarise.ts";
import type { OpenTasks, TaskStore } from "../task-store.ts";
import { type Triage, busyDelayMs, triage } from "./triage.ts";

/** The destination of finished tasks. */
export interface FinishedTaskSink {
  /**
   * Reports the first of these tasks: as many as fit into one request, and at least one.
   *
   * @throws the signal's reason if it is aborted first; `UnavailableError` if the sink is unavailable.
   */
  send(tasks: readonly Summary[], signal: AbortSignal): Promise<Reported>;
}

export interface Reported {
  /** How many of the tasks, counted from the first. */
  readonly tasks: number;
  /** Called once they are settled, so that a part that is reported again after a failure counts once. */
  readonly settled: () => void;
}

/** Steps after which a process may be killed without loss. Tests do so. */
export type Step = "merged" | "scheduled" | "claimed" | "reported" | "settled";

/** Why a task is put off: what it lacks, or `busy` if another job has a lease on it. */
export const PUT_OFF_REASONS = [...LACKS, "busy"] as const;
export type PutOffReason = (typeof PUT_OFF_REASONS)[number];

/** As in the host's contract with exporters. */
type Schedule = (ids: readonly string[], options: { readonly delayMs: number; readonly putOffBy?: Job }) => Promise<void>;

interface Job {
  readonly id: string;
}

export interface FinishedTasksOptions {
  readonly store: TaskStore;
  readonly sink: FinishedTaskSink;
  readonly schedule: Schedule;
  /** How long after its end a task is reported, to allow for events that are still on their way. */
  readonly graceMs: number;
  /** How long a task that lacks something is put off, counted from its first claim. */
  readonly incompleteWaitMs: number;
  readonly logger: Logger;
  /** Called every minute, in every process. The Store counts each expired task once. */
  readonly onSwept?: (tasks: OpenTasks) => void;
  readonly sweepEveryMs?: number;
  readonly onPutOff?: (reasons: readonly PutOffReason[]) => void;
  /** Called with what was missing from reported tasks. What might have come, and did not, is not missing. */
  readonly onIncomplete?: (reasons: readonly Missing[]) => void;
  /** Called after each step. Only tests set it. */
  readonly onStep?: (step: Step) => void | Promise<void>;
}

const SWEEP_EVERY_MS = 60_000;

/** How often an incomplete task is checked before it is reported as it is. */
const LOOKS = 6;

/** A short backoff: until the tasks are settled, a process that takes the job over would report them again. */
const SETTLE_RETRY = { maxMs: 500 };

type Tasks = readonly (readonly [id: string, summary: Summary])[];

/** Its methods follow the contract between an exporter and its host. */
export class FinishedTasks {
  readonly #options: FinishedTasksOptions;
  #sweeping: Repeat | undefined;

  constructor(options: FinishedTasksOptions) {
    this.#options = options;
  }

  /** Starts counting the tasks that never finish: their entries expire in the Store, and they are never reported. */
  start(): void {
    const { logger, sweepEveryMs = SWEEP_EVERY_MS } = this.#options;
    // The Redis connection logs outages itself.
    const onError = (err: Error): void => logger.debug({ err }, "could not count open tasks");
    this.#sweeping = new Repeat(() => this.#sweep(), { everyMs: sweepEveryMs, first: "now", onError });
  }

  /** Safe to call twice, and without `start`. */
  async stop(): Promise<void> {
    await this.#sweeping?.stop();
  }

  async export(events: readonly CeleryEvent[]): Promise<void> {
    const { store, schedule, graceMs } = this.#options;
    const ended = await store.apply(events);
    await this.#reached("merged");
    await schedule(ended, { delayMs: graceMs });
    await this.#reached("scheduled");
  }

  async process(ids: readonly string[], signal: AbortSignal, job: Job): Promise<number> {
    const { store } = this.#options;
    const askedAt = performance.now();
    const claims = await store.claim(job.id, ids);
    await this.#reached("claimed");

    const decided = triage(claims, this.#options);
    const { ready, incomplete } = decided;
    const leases = new Leases({ store, jobId: job.id, ids: [...ready.keys(), ...incomplete.keys()], askedAt });
    try {
      const left = await this.#sendInParts([...ready], leases, job, signal);
      await this.#putOff(withBusy(decided, left, store.leaseMs), job);
      // Another job may have reported the retries meanwhile.
      return [...ready.values()].filter(({ fields }) => fields.length > 0).length;
    } finally {
      await leases.stop();
    }
  }

  async forget(ids: readonly string[]): Promise<void> {
    await this.#options.store.forget(ids);
  }

  async #sweep(): Promise<void> {
    const { store, logger, onSwept } = this.#options;
    const swept = await store.sweep();
    onSwept?.(swept);
    if (swept.expired > 0) logger.info({ tasks: swept.expired }, "tasks expired in the Store before they finished");
  }

  /**
   * Returns the ids of tasks that were not reported because another job has a lease on them by now.
   *
   * @throws the signal's reason if it is aborted before the last part. The parts reported until then are settled.
   */
  async #sendInParts(ready: Tasks, leases: Leases, job: Job, signal: AbortSignal): Promise<string[]> {
    const { sink, onIncomplete } = this.#options;
    const left: string[] = [];
    for (let rest = ready; ;) {
      const lost = await leases.lost();
      left.push(...idsOf(rest).filter((id) => lost.has(id)));
      rest = rest.filter(([id]) => !lost.has(id));
      if (rest.length === 0) return left;
      const { tasks, settled } = await sink.send(summariesOf(rest), signal);
      const part = rest.slice(0, tasks);
      await this.#reached("reported");
      await this.#settle(job, new Map(part), signal);
      settled();
      onIncomplete?.(summariesOf(part).flatMap((summary) => missingFrom(summary) ?? []));
      await this.#reached("settled");
      rest = rest.slice(tasks);
    }
  }

  /** Retried here and not by the host, which would report everything again first. */
  async #settle(job: Job, reported: ReadonlyMap<string, Summary>, signal: AbortSignal): Promise<void> {
    const decide = (error: Error): undefined => {
      if (!(error instanceof UnavailableError) || signal.aborted) throw error;
    };
    await retry(() => this.#options.store.settle(job.id, reported), { ...SETTLE_RETRY, signal, decide });
  }

  /** Runs last, so that a job which is retried because the sink is unavailable does not put its tasks off each time. */
  async #putOff({ incomplete, busy, busyForMs }: Triage, job: Job): Promise<void> {
    const { store, schedule, onPutOff, incompleteWaitMs } = this.#options;
    if (incomplete.size > 0) {
      await schedule([...incomplete.keys()], { delayMs: Math.ceil(incompleteWaitMs / LOOKS), putOffBy: job });
      await store.release(job.id, [...incomplete.keys()]);
    }
    await schedule(busy, { delayMs: busyDelayMs(busyForMs, store.leaseMs), putOffBy: job });
    onPutOff?.([...incomplete.values(), ...busy.map(() => "busy" as const)]);
  }

  async #reached(step: Step): Promise<void> {
    await this.#options.onStep?.(step);
  }
}

function idsOf(tasks: Tasks): string[] {
  return tasks.map(([id]) => id);
}

function summariesOf(tasks: Tasks): Summary[] {
  return tasks.map(([, summary]) => summary);
}

/** Adds tasks that another job has just claimed to the busy ones. */
function withBusy(decided: Triage, ids: readonly string[], leaseMs: number): Triage {
  if (ids.length === 0) return decided;
  return { ...decided, busy: [...decided.busy, ...ids], busyForMs: leaseMs };
}

// Renews the leases of a job while its tasks are being reported, however long that takes.

export interface LeasesOptions {
  readonly store: Pick<TaskStore, "renew" | "leaseMs">;
  readonly jobId: string;
  readonly ids: readonly string[];
  /** When the leases were requested, by `performance.now()`. */
  readonly askedAt: number;
}

/** How often a lease is renewed before it would expire, because a try may fail or come late. */
const TRIES = 3;

/** Renews from its creation until `stop`. */
export class Leases {
  readonly #options: LeasesOptions;
  readonly #renewals: Repeat;
  readonly #lost = new Set<string>();
  /** When they were last requested. They last at least `leaseMs` from then. */
  #askedAt: number;

  constructor(options: LeasesOptions) {
    this.#options = options;
    this.#askedAt = options.askedAt;
    // A failure is not reported here: the next call to the Store reports the outage.
    this.#renewals = new Repeat(() => this.#renew(), { everyMs: options.store.leaseMs / TRIES });
  }

  /**
   * Resolves with the ids of lost leases, once the others are certain to last for a while. Asks the Store only if the last answer is old,
   * for example after an outage of Redis or if the process got no CPU. Settled and released tasks count as lost.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async lost(): Promise<ReadonlySet<string>> {
    if (performance.now() - this.#askedAt > this.#options.store.leaseMs / 2) await this.#renew();
    return this.#lost;
  }

  /** Resolves when the last try is over. Never rejects. */
  async stop(): Promise<void> {
    await this.#renewals.stop();
  }

  async #renew(): Promise<void> {
    const { store, jobId, ids } = this.#options;
    const askedAt = performance.now();
    for (const id of await store.renew(jobId, ids)) this.#lost.add(id);
    this.#askedAt = askedAt;
  }
}
