/**
 * Feeds a sink with what finished tasks came to: events → Store → summaries → sink. An exporter of finished tasks is this and a sink.
 *
 *   export    merges a batch into the Store, then schedules the tasks it ended, for when the grace is over
 *   process   claims those tasks, sends the ones that are complete, and only then marks them as sent; the others are put off
 *
 * Many tasks are sent and marked in parts: a process that has to exit stops between two, and the job is given back. When it comes again, the
 * tasks of the parts before count as sent. The job's leases are renewed until all is marked, because sending may take longer than any lease.
 *
 * A process may die between any two steps. Before `scheduled` the batch runs again and finds its finals unsent; afterwards the job runs
 * again, takes its own leases at once, and sends what was not marked: at most the part that was being sent goes out twice.
 */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { type Logger, Repeat, UnavailableError, retry } from "@celery-metrics-exporter/runtime";
import type { Lack, Summary } from "../completions/summarise.ts";
import type { OpenTasks, TaskStore } from "../task-store.ts";
import { Leases } from "./leases.ts";
import { type Triage, busyDelayMs, triage } from "./triage.ts";

/** Where finished tasks go. */
export interface FinishedTaskSink {
  /**
   * Sends the first of these tasks: as many as fit one sending, and at least one.
   *
   * @throws the signal's reason when it is aborted first; `UnavailableError` when the sink does not serve.
   */
  send(tasks: readonly Summary[], signal: AbortSignal): Promise<Sent>;
}

export interface Sent {
  /** How many of the tasks, from the first. */
  readonly tasks: number;
  /** Called once they are marked as sent: a part that is sent again after a failure counts once. */
  readonly marked: () => void;
}

/** The step after which a process may be killed without loss; tests do. */
export type Step = "merged" | "scheduled" | "claimed" | "sent" | "settled";

/** Why tasks are put off: what they lack, or that another job has a lease on them. */
export type PutOffReason = Lack | "busy";

/** As the host gives it to exporters. */
type Schedule = (ids: readonly string[], options: { readonly delayMs: number; readonly putOffBy?: Job }) => Promise<void>;

interface Job {
  readonly id: string;
}

export interface FinishedTasksOptions {
  readonly store: TaskStore;
  readonly sink: FinishedTaskSink;
  readonly schedule: Schedule;
  /** How long after its end a task is sent, for events of it that are still on their way. */
  readonly graceMs: number;
  /** How long a task that lacks something is put off, from its first claim. */
  readonly incompleteWaitMs: number;
  /** As the Store has it. */
  readonly leaseMs: number;
  readonly logger: Logger;
  /** Called every minute. Every process asks; the Store reports each expired task once. */
  readonly onSwept?: (tasks: OpenTasks) => void;
  readonly sweepEveryMs?: number;
  readonly onPutOff?: (reasons: readonly PutOffReason[]) => void;
  /** Called with what was still missing of tasks that were sent. */
  readonly onIncomplete?: (reasons: readonly Lack[]) => void;
  /** Called after each step. Only tests set it. */
  readonly onStep?: (step: Step) => void | Promise<void>;
}

const SWEEP_EVERY_MS = 60_000;

/** An incomplete task is looked at this many times before it is sent as it is. */
const LOOKS = 6;

/** Between tries to mark tasks as sent: until it works, whoever takes the job over would send them again. */
const SETTLE_RETRY = { maxMs: 500 };

type Tasks = readonly (readonly [id: string, summary: Summary])[];

/** Its methods follow the contract of an exporter. */
export class FinishedTasks {
  readonly #options: FinishedTasksOptions;
  #sweeping: Repeat | undefined;

  constructor(options: FinishedTasksOptions) {
    this.#options = options;
  }

  /** Begins to count the tasks that never finish: their entries expire in the Store, and nothing is ever sent of them. */
  start(): void {
    const { logger, sweepEveryMs = SWEEP_EVERY_MS } = this.#options;
    // The connection logs its loss itself.
    const onError = (err: Error): void => logger.debug({ err }, "open tasks could not be counted");
    this.#sweeping = new Repeat(() => this.#sweep(), { everyMs: sweepEveryMs, first: "now", onError });
  }

  /** Safe twice, and without `start`. */
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
    const { store, leaseMs } = this.#options;
    const askedAt = performance.now();
    const claims = await store.claim(job.id, ids);
    await this.#reached("claimed");

    const decided = triage(claims, this.#options);
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

  async #sweep(): Promise<void> {
    const { store, logger, onSwept } = this.#options;
    const swept = await store.sweep();
    onSwept?.(swept);
    if (swept.expired > 0) logger.info({ tasks: swept.expired }, "tasks expired in the Store before they finished");
  }

  /**
   * Returns the ids of tasks that were not sent, because another job has a lease on them by now.
   *
   * @throws the signal's reason when it is aborted before the last part. What was sent until then is marked.
   */
  async #sendInParts(ready: Tasks, leases: Leases, job: Job, signal: AbortSignal): Promise<string[]> {
    const { sink, onIncomplete } = this.#options;
    const left: string[] = [];
    for (let rest = ready; ;) {
      const lost = await leases.lost();
      left.push(...idsOf(rest).filter((id) => lost.has(id)));
      rest = rest.filter(([id]) => !lost.has(id));
      if (rest.length === 0) return left;
      const { tasks, marked } = await sink.send(summariesOf(rest), signal);
      const part = rest.slice(0, tasks);
      await this.#reached("sent");
      await this.#settle(job, new Map(part), signal);
      marked();
      onIncomplete?.(summariesOf(part).flatMap(({ lacks }) => lacks ?? []));
      await this.#reached("settled");
      rest = rest.slice(tasks);
    }
  }

  /** Tried again here and not by the host, which would send everything again first. */
  async #settle(job: Job, sent: ReadonlyMap<string, Summary>, signal: AbortSignal): Promise<void> {
    const decide = (error: Error): undefined => {
      if (!(error instanceof UnavailableError) || signal.aborted) throw error;
    };
    await retry(() => this.#options.store.settle(job.id, sent), { ...SETTLE_RETRY, signal, decide });
  }

  /** Afterwards, so that a job that is tried again because the sink is away is not put off again each time. */
  async #putOff({ incomplete, busy, busyForMs }: Triage, job: Job): Promise<void> {
    const { store, schedule, onPutOff, incompleteWaitMs, leaseMs } = this.#options;
    if (incomplete.size > 0) {
      await schedule([...incomplete.keys()], { delayMs: Math.ceil(incompleteWaitMs / LOOKS), putOffBy: job });
      await store.release(job.id, [...incomplete.keys()]);
    }
    await schedule(busy, { delayMs: busyDelayMs(busyForMs, leaseMs), putOffBy: job });
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

/** Tasks that another job has claimed meanwhile, a moment ago, are busy like those that it had from the first. */
function withBusy(decided: Triage, ids: readonly string[], leaseMs: number): Triage {
  if (ids.length === 0) return decided;
  return { ...decided, busy: [...decided.busy, ...ids], busyForMs: leaseMs };
}
