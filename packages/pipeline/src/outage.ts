/** Tells of an outage once when it begins and once when it is over, in `/readyz` and in the log. */
import type { ComponentHealth, Logger } from "@celery-metrics-exporter/runtime";

export class Outage {
  readonly #component: ComponentHealth;
  readonly #logger: Logger;
  #since: number | undefined;

  constructor(component: ComponentHealth, logger: Logger) {
    this.#component = component;
    this.#logger = logger;
  }

  get isOn(): boolean {
    return this.#since !== undefined;
  }

  /** A delivery failed because something does not serve. */
  failed(reason: string): void {
    this.#component.down(reason);
    if (this.#since !== undefined) return;
    this.#since = Date.now();
    this.#logger.warn({ reason }, "sink unavailable, batches are kept and tried again");
  }

  /** A delivery went through. */
  served(): void {
    if (this.#since === undefined) return;
    this.#logger.info({ seconds: Math.round((Date.now() - this.#since) / 1_000) }, "sink available again");
    this.#since = undefined;
    this.#component.up();
  }
}
