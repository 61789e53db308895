/** Reports an outage in `/readyz` and in the log: when it begins, with each new reason, at growing intervals while it lasts, and when it is over. */
import type { ComponentHealth, Logger } from "@celery-metrics-exporter/runtime";

export interface OutageMessages {
  readonly began: string;
  readonly ended: string;
}

const FIRST_REPEAT_MS = 60_000;
const LAST_REPEAT_MS = 3_600_000;
/** So many different reasons are logged at once: some have an id or an address in them. */
const MOST_REASONS = 10;

export class Outage {
  readonly #component: ComponentHealth;
  readonly #logger: Logger;
  readonly #messages: OutageMessages;
  /** Those that were logged in this outage. */
  readonly #reasons = new Set<string>();
  #since: number | undefined;
  #repeatAt = 0;

  constructor(component: ComponentHealth, logger: Logger, messages: OutageMessages) {
    this.#component = component;
    this.#logger = logger;
    this.#messages = messages;
    component.up();
  }

  get isOn(): boolean {
    return this.#since !== undefined;
  }

  /**
   * Something does not serve.
   *
   * @param error logged with its stack and causes, where the reason alone does not explain it.
   */
  failed(reason: string, error?: Error): void {
    this.#component.down(reason);
    const now = Date.now();
    const isFirst = this.#since === undefined;
    this.#since ??= now;
    const isNew = this.#reasons.size < MOST_REASONS && !this.#reasons.has(reason);
    if (!isNew && now < this.#repeatAt) return;
    if (isNew) this.#reasons.add(reason);
    const lasted = now - this.#since;
    this.#repeatAt = now + Math.min(LAST_REPEAT_MS, Math.max(FIRST_REPEAT_MS, lasted));
    const fields = { reason, ...(error !== undefined && { err: error }), ...(!isFirst && { seconds: Math.round(lasted / 1_000) }) };
    this.#logger.warn(fields, this.#messages.began);
  }

  /** It serves. */
  served(): void {
    if (this.#since === undefined) return;
    this.#logger.info({ seconds: Math.round((Date.now() - this.#since) / 1_000) }, this.#messages.ended);
    this.#since = undefined;
    this.#reasons.clear();
    this.#component.up();
  }
}
