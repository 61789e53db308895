/** The contract between an exporter and its host. The host owns queues, batching, retry, concurrency, drain and self-metrics. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import type { ConfigSchema, RoleContext } from "@celery-metrics-exporter/runtime";
import type { z } from "zod";

/** A destination for Celery events. Created once per process; `export` and `process` are called concurrently. */
export interface Exporter {
  /** Connects. A rejection aborts the start of the process. */
  start?(): Promise<void>;

  /**
   * Takes a batch. It may come again, whole or in other company, and batches come in any order: applying it must be idempotent and
   * commutative. Must not modify the events.
   *
   * Throw `PermanentError` when the data is at fault: the host splits the batch, and dead-letters an event that is refused again after others
   * like it got through for the first time. Throw `UnavailableError` when the sink does not serve: the host tries the same batch again, for
   * ever, and reports not ready. Throw `TimedOutError`, which is one of these, when a time limit ended it, so that a single slow event may be why:
   * the host then finds out what gets through without it. Anything else is tried again a few times and then treated like a refusal. Without evidence that an event is
   * at fault, the host holds it.
   *
   * @param signal aborted when the process must end before the batch could be delivered; the batch then goes back to its queue.
   */
  export(events: readonly CeleryEvent[], signal: AbortSignal): Promise<void>;

  /**
   * The second stage: takes the ids of one `schedule` call when their delay is over. Same rules, same errors.
   *
   * @returns for how many ids there was something to do, if not for all: that an id got through which was not looked at is no evidence.
   */
  process?(ids: readonly string[], signal: AbortSignal, job: ProcessingJob): Promise<number | void>;

  /**
   * Removes what it has stored for these tasks: a name or queue told only now that a filter excludes them. It leaves alone those of which it has
   * a `task-sent`: nothing of an excluded task has one, so they are of an earlier life of the id that was wanted. Called after `export`, with ids
   * it may never have seen. Same rules, same errors.
   *
   * @param signal aborted also when it takes longer than 20 s.
   * @returns for how many ids there was something to remove, if not for all.
   */
  forget?(ids: readonly string[], signal: AbortSignal): Promise<number | void>;

  /** Flushes and disconnects. Safe without `start`, and safe twice. */
  stop?(): Promise<void>;
}

/** The job that `process` works for: the same id again means the same job again, after a crash or a retry. */
export interface ProcessingJob {
  readonly id: string;
}

interface ScheduleOptions {
  readonly delayMs: number;
  /** The job these ids come from, where they are put off: their lag is counted from when they were first scheduled. */
  readonly putOffBy?: ProcessingJob;
}

/** Puts ids on the exporter's processing queue, as one job; resolves once it is stored. Without ids it does nothing. */
export type Schedule = (ids: readonly string[], options: ScheduleOptions) => Promise<void>;

export interface ExporterContext<C> extends RoleContext<C> {
  readonly schedule: Schedule;
}

export interface ExporterDefinition<S extends ConfigSchema = ConfigSchema> {
  /** As registered in `exporters.ts`. */
  readonly name: string;
  /** Its own settings; the host's come on top. */
  readonly Config: S;
  /** Builds the exporter. May acquire, if it registers the release with `context.lifecycle`. */
  create(context: ExporterContext<z.output<S>>): Exporter | Promise<Exporter>;
}

/** Declares an exporter, so that `create` knows the type of its configuration. */
export function defineExporter<S extends ConfigSchema>(definition: ExporterDefinition<S>): ExporterDefinition<S> {
  return definition;
}
