/** Stores one batch: its events in the exporter queues, its rejects in the dead-letter queue. */
import {
  admitAll,
  letterOf,
  lettersOfFuture,
  type Admitted,
  type BatchFilter,
  type DeadLetters,
  type Fanout,
} from "@celery-metrics-exporter/pipeline";
import { Outage, UnavailableError, retry, type ComponentHealth, type Logger } from "@celery-metrics-exporter/runtime";
import type { Batch } from "./batcher.ts";
import type { ReceiverMetrics } from "./receiver-metrics.ts";

export interface DeliveryOptions {
  /** The broker's name, stored with each batch. */
  readonly broker: string;
  readonly fanout: Fanout;
  /** Undefined if no filter is set. */
  readonly filter: BatchFilter | undefined;
  readonly deadLetters: DeadLetters;
  readonly metrics: ReceiverMetrics;
  /** Whether batches can be stored at the moment. */
  readonly health: ComponentHealth;
  readonly logger: Logger;
}

/** Well under the grace that exporters give late events, so that batches stored after an outage are not late. */
const BACKOFF = { firstMs: 100, maxMs: 250 };

export class Delivery {
  readonly #options: DeliveryOptions;
  readonly #outage: Outage;

  constructor(options: DeliveryOptions) {
    this.#options = options;
    this.#outage = new Outage({
      component: options.health,
      logger: options.logger,
      began: "batches cannot be stored; they are kept and retried",
      ended: "batches are stored again",
    });
  }

  /**
   * Retries each step until it succeeds, however long Redis is away. Returns true when the batch is safe; false if `signal` was aborted first,
   * because the broker still has the messages.
   */
  async deliver(batch: Batch, signal: AbortSignal): Promise<boolean> {
    for (const step of this.#steps(batch)) {
      const decide = (error: Error): false | undefined => {
        this.#failed(error);
        return signal.aborted ? false : undefined;
      };
      const isDone = await retry(
        async () => {
          await step();
          return true;
        },
        { ...BACKOFF, signal, decide },
      );
      if (!isDone) return false;
      this.#outage.served();
    }
    return true;
  }

  #steps({ events, rejected, future, closedAt }: Batch): (() => Promise<void>)[] {
    const { broker, fanout, filter, deadLetters, metrics } = this.#options;
    let admitted: Admitted | undefined;
    const enqueue = async (): Promise<void> => {
      // Redis is asked only once, however often storing is retried.
      admitted ??= filter === undefined ? admitAll(events) : await filter.admit(events);
      await fanout.enqueue({ broker, receivedAt: closedAt, ...admitted });
      metrics.enqueued(events.length, admitted.events.length);
    };
    const bury = async (): Promise<void> => {
      await deadLetters.add([...rejected.map(letterOf), ...lettersOfFuture(future)]);
    };
    return [...(events.length > 0 ? [enqueue] : []), ...(rejected.length + future.length > 0 ? [bury] : [])];
  }

  #failed(error: Error): void {
    this.#options.metrics.retried();
    this.#outage.failed({ reason: error.message, ...(!(error instanceof UnavailableError) && { err: error }) });
  }
}
