/** Redis answers a worker, but refuses its commands: at `maxmemory` (OOM), without permission (NOPERM), unable to save (MISCONF). */
import { type ComponentHealth, type Logger, Outage } from "@celery-metrics-exporter/runtime";
import { LOCK_OPTIONS, REDIS_RETRY_MS } from "./bullmq.ts";

/**
 * After so long without a refusal Redis is taken to serve again: a worker whose queue stays empty is told of no success, but its look for
 * stalled jobs is refused as often as that.
 */
const QUIET_MS = 3 * (LOCK_OPTIONS.stalledInterval + REDIS_RETRY_MS);

export class RedisRefusal {
  readonly #outage: Outage;
  #quiet: NodeJS.Timeout | undefined;

  /** @param component up until the first refusal. */
  constructor(component: ComponentHealth, logger: Logger) {
    this.#outage = new Outage({
      component,
      logger,
      began: "Redis refuses to hand out jobs, they stay in the queue",
      ended: "Redis hands out jobs again",
    });
  }

  /** @param reason as Redis states it. */
  refused(reason: string): void {
    this.#outage.failed({ reason });
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => this.served(), QUIET_MS).unref();
  }

  served(): void {
    clearTimeout(this.#quiet);
    this.#outage.served();
  }

  /** Says nothing more. */
  close(): void {
    clearTimeout(this.#quiet);
  }
}
