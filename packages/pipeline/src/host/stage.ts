/** One of the two stages of an exporter: what its host does with the jobs of one queue. */
import type { DeliveryJob, HeldReason } from "../deliver/deliver.ts";
import type { Attempt } from "../deliver/tries.ts";

/** The job that contains a batch. */
export interface StageJob extends DeliveryJob {
  /** As stored in Redis. */
  readonly payload: unknown;
  /** Runs everything else that reads or writes the contents of the batch. */
  readonly step: Attempt;
}

/** The part of a batch that can neither be delivered nor buried now. */
export interface HeldBatch extends HeldReason {
  /** Writes the payload of the rest. */
  readonly rest: () => unknown;
  /** Whether the rest may contain events of workers. */
  readonly hasWorkers?: boolean;
  /** Whether the sink took other items of the batch. */
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
  /** Payloads that together make up the batch: two halves, or the whole batch if there is nothing to split. */
  split(batch: P): readonly unknown[];
  /**
   * Whether the job has to wait for something else. It is then checked again a little later, and after many checks it runs anyway.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  mustWait?(job: Pick<StageJob, "id" | "payload" | "begun">): Promise<boolean>;
  /**
   * Delivers or buries the contents of the batch, and returns what has to be held.
   *
   * @throws {LetGo} if the process exits first, or another process has the job.
   */
  run(batch: P, job: StageJob): Promise<HeldBatch | undefined>;
  /**
   * Puts the whole batch into the dead-letter queue.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  bury(batch: P, reason: string, detail: string): Promise<void>;
}
