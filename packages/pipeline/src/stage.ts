/** One of the two stages of an exporter: what its host does with the jobs of one queue. */
import type { ProcessingJob } from "./exporter.ts";

/** @typeParam P what a payload of the queue decodes to. */
export interface Stage<P> {
  readonly queueName: string;
  /** @throws {PermanentError} for a payload that this release cannot read. */
  decode(payload: unknown): P;
  /** Number of events or ids. */
  size(parcel: P): number;
  /** Payloads that together are the parcel: two halves, or the whole again where there is nothing to split. */
  split(parcel: P): readonly unknown[];
  /**
   * Whether something has to come first: the job is looked at again a little later, and runs in the end whatever this says.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  mustWait?(payload: unknown): Promise<boolean>;
  /**
   * Delivers what is in it, or buries it.
   *
   * @throws {GivenBack} when the process ends first.
   */
  run(parcel: P, job: ProcessingJob): Promise<void>;
  /**
   * Puts all of it into the dead-letter queue.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  bury(parcel: P, reason: string, detail: string): Promise<void>;
}
