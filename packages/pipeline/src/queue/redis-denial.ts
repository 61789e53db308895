/**
 * The outage in which Redis answers a worker but refuses its commands: at `maxmemory` (OOM), without permission (NOPERM), unable to save
 * (MISCONF).
 */
import { type ComponentHealth, type Logger, Outage } from "@celery-metrics-exporter/runtime";
import { LOCK_OPTIONS, REDIS_RETRY_MS } from "./bullmq.ts";

/**
 * How long without a refusal until Redis counts as available again. A worker with an empty queue gets no sign of success, but during a
 * refusal its check for stalled jobs fails at least this often.
 */
const QUIET_MS = 3 * (LOCK_OPTIONS.stalledInterval + REDIS_RETRY_MS);

export class RedisDenial {
  readonly #outage: Outage;
  #quiet: NodeJS.Timeout | undefined;

  /** @param component up until the first refusal. */
  constructor(component: ComponentHealth, logger: Logger) {
    this.#outage = new Outage({
      component,
      logger,
      began: "Redis refuses to hand out jobs: they stay in the queue",
      ended: "Redis hands out jobs again",
    });
  }

  /** @param reason in Redis' words. */
  refused(reason: string): void {
    this.#outage.failed({ reason });
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => this.served(), QUIET_MS).unref();
  }

  served(): void {
    clearTimeout(this.#quiet);
    this.#outage.served();
  }

  /** Stops reporting. */
  close(): void {
    clearTimeout(this.#quiet);
  }
}
