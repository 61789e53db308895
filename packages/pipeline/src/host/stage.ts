/** One of the two stages of an exporter: what its host does with the jobs of one queue. */
import type { DeliveryJob, HeldReason } from "../deliver/deliver.ts";
import type { Attempt } from "../deliver/tries.ts";

/** The job that a batch came in. */
export interface StageJob extends DeliveryJob {
  /** As it is stored. */
  readonly payload: unknown;
  /** How to run whatever else reads or writes what is in the batch. */
  readonly step: Attempt;
}

/** What is left of a batch that can neither be delivered nor buried now. */
export interface HeldBatch extends HeldReason {
  /** Writes the payload of the rest. */
  readonly rest: () => unknown;
  /** Whether the sink took others of the batch. */
  readonly tookSome: boolean;
}

/** @typeParam P what a payload of the queue decodes to. */
export interface Stage<P> {
  readonly queueName: string;
  /**
   * @throws {NewerPayloadError} for a payload that a newer release has written.
   * @throws {PermanentError} for any other payload that this release cannot read.
   */
  decode(payload: unknown): P;
  /** Number of events or ids. */
  size(batch: P): number;
  /** Payloads that together are the batch: two halves, or the whole again where there is nothing to split. */
  split(batch: P): readonly unknown[];
  /**
   * Whether something has to come first: the job is looked at again a little later, and runs in the end whatever this says.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  mustWait?(payload: unknown): Promise<boolean>;
  /**
   * Delivers or buries what is in the batch, and returns what has to be held.
   *
   * @throws {LetGo} when the process ends first, or the job is another's.
   */
  run(batch: P, job: StageJob): Promise<HeldBatch | undefined>;
  /**
   * Puts all of it into the dead-letter queue.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  bury(batch: P, reason: string, detail: string): Promise<void>;
}
