/** The contract between an exporter and its host. The host owns queues, batching, retry, concurrency, drain and self-metrics. */
import type { CeleryEvent, Observation } from "@celery-metrics-exporter/celery";
import type { ConfigSchema, RoleContext } from "@celery-metrics-exporter/runtime";
import type { z } from "zod";

/** A destination for Celery events. Created once per process; its methods are called concurrently. */
export interface Exporter {
  /** Connects. If it rejects, the process does not start. */
  start?(): Promise<void>;

  /**
   * Exports a batch. Its events may come again, in the same batch or in another one, and batches come in any order: so exporting must be
   * idempotent and commutative. A task can end more than once: the order of `packages/celery/src/model/task-state.ts` decides between two
   * ends, not the order of arrival. Must not modify the events.
   *
   * - Throw `PermanentError` if the data is at fault. The host splits the batch, and dead-letters an event that is refused again after
   *   others like it got through for the first time.
   * - Throw `UnavailableError` if the sink is unavailable. The host retries the same batch forever, and is not ready meanwhile.
   * - Throw `TimedOutError`, a subclass of it, if a time limit was exceeded. A single slow event may be the cause, so the host finds out
   *   what gets through without it.
   * - After any other error, the host retries a few times and then treats the error like a refusal.
   *
   * Without evidence that an event is at fault, the host holds it.
   *
   * The events of workers come in a call of their own, after those of the batch's tasks. If none of the tasks' events gets through, they wait with them.
   *
   * @param signal aborted if the process must exit before the batch is delivered. The batch then goes back to its queue.
   * @param batch the batch to which the events belong. The host always passes it.
   */
  export(events: readonly CeleryEvent[], signal: AbortSignal, batch?: ExportedBatch): Promise<void>;

  /**
   * The second stage: processes the ids of one `schedule` call after their delay. The rules and errors are the same as for `export`.
   *
   * @returns the number of ids for which there was something to do, if not all. An id that needed nothing is no evidence that the sink
   * works.
   */
  process?(ids: readonly string[], signal: AbortSignal, job: ProcessingJob): Promise<number | void>;

  /**
   * Removes what it has stored for these tasks, because a name or queue that arrived late shows that a filter excludes them. It keeps tasks
   * for which it has a `task-sent`: the host passes on no `task-sent` of an excluded task, so this one belongs to an earlier life of the id
   * that was wanted. Leave this method out only if nothing is stored by task; otherwise an excluded task whose name arrives late stays in the
   * sink. Called after `export`, with ids that the exporter may never have seen. The rules and errors are the same as for
   * `export`.
   *
   * @param signal also aborted if it takes longer than 20 s.
   * @returns the number of ids for which there was something to remove, if not all.
   */
  forget?(ids: readonly string[], signal: AbortSignal): Promise<number | void>;

  /**
   * Takes what a monitor observed of queues and workers. Only for an exporter that is registered with `observes`. Observations may come
   * again and in any order: of each type, the newest timestamp counts. They are state and not events, so a lost one does not matter. Must
   * not modify them.
   *
   * The errors mean the same as for `export`, with one difference: what is refused, or times out three times, is dropped and counted. It is
   * neither held nor a dead letter, because the next observation replaces it.
   *
   * @param signal aborted if the process must exit first. The observations then go back to their queue.
   */
  observe?(observations: readonly Observation[], signal: AbortSignal): Promise<void>;

  /** Flushes and disconnects. Safe to call without `start`, and twice. */
  stop?(): Promise<void>;
}

/** What the host knows of a batch, or of the batch that was split. */
export interface ExportedBatch {
  /**
   * When the receiver closed it: seconds since the epoch, by the receiver's clock. Undefined if that is not known: an older release has
   * received it, or dead letters are replayed.
   */
  readonly receivedAt: number | undefined;
}

/** The job that `process` works for. After a crash or a retry, the same job comes again with the same id. */
export interface ProcessingJob {
  readonly id: string;
}

interface ScheduleOptions {
  readonly delayMs: number;
  /** The job from which these ids are put off, if any. Their lag is then counted from when they were first scheduled. */
  readonly putOffBy?: ProcessingJob;
}

/** Puts ids on the exporter's processing queue, as one job. Resolves once the job is stored. Without ids, it does nothing. */
export type Schedule = (ids: readonly string[], options: ScheduleOptions) => Promise<void>;

export interface ExporterContext<C> extends RoleContext<C> {
  readonly schedule: Schedule;
}

export interface ExporterDefinition<S extends ConfigSchema = ConfigSchema> {
  /** As registered in `exporters.ts`. */
  readonly name: string;
  /** The exporter's own settings; the host adds its own. */
  readonly Config: S;
  /** Where it exports to, in a few words and without a password. `start` shows it once everything runs. */
  sinkAddress?(config: z.output<S>): string;
  /** Creates the exporter. It may acquire resources, if it registers their release with `context.lifecycle`. */
  create(context: ExporterContext<z.output<S>>): Exporter | Promise<Exporter>;
}

/** Declares an exporter, so that `create` knows the type of its configuration. */
export function defineExporter<S extends ConfigSchema>(definition: ExporterDefinition<S>): ExporterDefinition<S> {
  return definition;
}
