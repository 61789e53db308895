/** Batches that are held: they are back in their queue, because a sink refuses them or because a newer release has written them. */
import { backoffMs, pause, type ComponentHealth, type Logger } from "@celery-metrics-exporter/runtime";
import { Outage } from "./outage.ts";

const BACKOFF = { firstMs: 500, maxMs: 30_000 };
const POLL_MS = 200;
/** A batch that another process takes is not heard of again. After this long without a held batch there is none that we know of. */
const QUIET_MS = 3 * BACKOFF.maxMs;

/** One for each stage of an exporter: not ready while it holds batches. */
export class Holding {
  readonly #outage: Outage;
  readonly #jobs = new Set<string>();
  #quiet: NodeJS.Timeout | undefined;
  /** In a row. */
  #times = 0;

  /** @param component up until the first batch is held. */
  constructor(component: ComponentHealth, logger: Logger) {
    this.#outage = new Outage(component, logger, {
      began: "batches are held, they stay in the queue and are tried again",
      ended: "batches go through again",
    });
  }

  get isOn(): boolean {
    return this.#outage.isOn;
  }

  /** A job is held. */
  add(jobId: string, because: string, error: Error): void {
    this.#jobs.add(jobId);
    this.#outage.failed(`${because} (${error.message})`, error);
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => this.#end(), QUIET_MS).unref();
  }

  /** A job is done, held before or not. */
  done(jobId: string): void {
    this.#times = 0;
    if (this.#jobs.delete(jobId) && this.#jobs.size === 0) this.#end();
  }

  /** Waits longer each time, so that a sink that refuses everything is not asked all the time. Ends early when a job is done. */
  async wait(signal: AbortSignal): Promise<void> {
    this.#times += 1;
    const until = performance.now() + backoffMs(this.#times - 1, BACKOFF);
    while (this.#times > 0 && performance.now() < until && !signal.aborted) await pause(POLL_MS, signal);
  }

  /** Reports nothing more. */
  close(): void {
    clearTimeout(this.#quiet);
  }

  #end(): void {
    clearTimeout(this.#quiet);
    this.#jobs.clear();
    this.#outage.served();
  }
}
