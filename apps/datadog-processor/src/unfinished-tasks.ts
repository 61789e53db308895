/** Counts the tasks that never finish: their entries expire in the Store, and nothing is ever sent of them. */
import { pause, toError, type Logger, type Metrics } from "@celery-metrics-exporter/runtime";
import type { TaskStore } from "@celery-metrics-exporter/task-store";

export interface UnfinishedTasksOptions {
  readonly store: Pick<TaskStore, "sweep">;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly intervalMs?: number;
}

const INTERVAL_MS = 60_000;

/** Works from its creation until `stop`. Every process asks; the Store tells of each expired task once. */
export class UnfinishedTasks {
  readonly #stopped = new AbortController();
  readonly #done: Promise<void>;

  constructor(options: UnfinishedTasksOptions) {
    this.#done = this.#work(options);
  }

  /** Safe twice. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#done;
  }

  async #work({ store, metrics, logger, intervalMs = INTERVAL_MS }: UnfinishedTasksOptions): Promise<void> {
    const { signal } = this.#stopped;
    const expiredTotal = metrics.counter(
      "datadog_tasks_expired_total",
      "Tasks that expired in the Store before they had ended and were sent.",
    );
    const open = metrics.gauge("datadog_tasks_open", "Tasks in the Store that were not sent yet, of all processes together.");
    while (!signal.aborted) {
      try {
        const swept = await store.sweep();
        open.set(swept.open);
        expiredTotal.inc(swept.expired);
        if (swept.expired > 0) logger.info({ tasks: swept.expired }, "tasks expired before their end was told");
      } catch (thrown) {
        // The connection tells of its loss itself.
        logger.debug({ err: toError(thrown) }, "open tasks could not be counted");
      }
      await pause(intervalMs, signal);
    }
  }
}
