/** Reports an outage in `/readyz` and in the log: when it begins, with each new reason, at growing intervals while it lasts, and when it is over. */
import { type ComponentHealth, type Logger, OutageLog } from "@celery-metrics-exporter/runtime";

export interface OutageMessages {
  readonly began: string;
  readonly ended: string;
}

export class Outage {
  readonly #component: ComponentHealth;
  readonly #log: OutageLog;

  constructor(component: ComponentHealth, logger: Logger, messages: OutageMessages) {
    this.#component = component;
    this.#log = new OutageLog({ logger, ...messages });
    component.up();
  }

  get isOn(): boolean {
    return this.#log.isOn;
  }

  /**
   * Something does not serve.
   *
   * @param error logged with its stack and causes, where the reason alone does not explain it.
   */
  failed(reason: string, error?: Error): void {
    this.#component.down(reason);
    this.#log.failed({ reason, ...(error !== undefined && { err: error }) });
  }

  /** It serves. */
  served(): void {
    if (!this.#log.isOn) return;
    this.#log.served();
    this.#component.up();
  }
}

// Logs errors of no known kind in full: most are bugs, and without a stack nobody can find them.

const FIRST_INTERVAL_MS = 10_000;
const LAST_INTERVAL_MS = 3_600_000;

/** One line at first, then at growing intervals while errors keep coming. */
export class ErrorLog {
  readonly #logger: Logger;
  readonly #now: () => number;
  #unlogged = 0;
  #intervalMs = 0;
  #loggedAt = Number.NEGATIVE_INFINITY;

  /** @param now milliseconds, monotonic. */
  constructor(logger: Logger, now: () => number = () => performance.now()) {
    this.#logger = logger;
    this.#now = now;
  }

  add(err: Error): void {
    this.#unlogged += 1;
    const quietMs = this.#now() - this.#loggedAt;
    if (quietMs < this.#intervalMs) return;
    this.#logger.error({ err, count: this.#unlogged }, "the exporter failed with an error of no known kind");
    // A long silence is the end of a series.
    const isSeries = quietMs < 2 * this.#intervalMs;
    this.#intervalMs = isSeries ? Math.min(LAST_INTERVAL_MS, 2 * this.#intervalMs) : FIRST_INTERVAL_MS;
    this.#loggedAt = this.#now();
    this.#unlogged = 0;
  }
}
