/** Tells of an outage once when it begins and once when it is over, in `/readyz` and in the log. */
import type { ComponentHealth, Logger } from "@celery-metrics-exporter/runtime";

export interface OutageMessages {
  readonly began: string;
  readonly ended: string;
}

export class Outage {
  readonly #component: ComponentHealth;
  readonly #logger: Logger;
  readonly #messages: OutageMessages;
  #since: number | undefined;

  constructor(component: ComponentHealth, logger: Logger, messages: OutageMessages) {
    this.#component = component;
    this.#logger = logger;
    this.#messages = messages;
    component.up();
  }

  get isOn(): boolean {
    return this.#since !== undefined;
  }

  /** Something does not serve. */
  failed(reason: string): void {
    this.#component.down(reason);
    if (this.#since !== undefined) return;
    this.#since = Date.now();
    this.#logger.warn({ reason }, this.#messages.began);
  }

  /** It serves. */
  served(): void {
    if (this.#since === undefined) return;
    this.#logger.info({ seconds: Math.round((Date.now() - this.#since) / 1_000) }, this.#messages.ended);
    this.#since = undefined;
    this.#component.up();
  }
}
