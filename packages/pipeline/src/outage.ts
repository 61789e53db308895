/** Reports an outage in `/readyz` and in the log: when it begins, with each new reason, at growing intervals while it lasts, and when it is over. */
import { OutageLog, type ComponentHealth, type Logger } from "@celery-metrics-exporter/runtime";

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
