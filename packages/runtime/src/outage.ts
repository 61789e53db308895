/** Something we depend on does not serve: one component in `/readyz`, and one line in the log. */
import type { Logger } from "./log/logger.ts";
import type { ComponentHealth } from "./process/health.ts";

export interface OutageOptions {
  readonly logger: Logger;
  /** Down while it lasts, and up from the start. */
  readonly component?: ComponentHealth;
  readonly began: string;
  /** Said while it lasts; `began` again if absent. */
  readonly lasts?: string;
  readonly ended: string;
  /** Default `warn`. */
  readonly level?: "info" | "warn";
  /** The time until it is said again, doubled each time up to an hour, in milliseconds. Default one minute. */
  readonly firstRepeatMs?: number;
}

/** What is wrong now. */
export interface OutageFields {
  readonly reason?: string;
  /** Logged with its stack and causes, where the reason alone does not explain it. */
  readonly err?: Error;
  readonly [field: string]: unknown;
}

const FIRST_REPEAT_MS = 60_000;
const LAST_REPEAT_MS = 3_600_000;
/** So many different reasons are logged at once: some have an id or an address in them. */
const MOST_REASONS = 10;
/** So often it is logged at once that it begins, if it was over for less than the first interval. */
const MOST_RETURNS = 5;

/**
 * Logged when it begins, with each new reason, at growing intervals while it lasts or comes and goes, and when it is over. Keeps no timer:
 * whoever tries again reports each try.
 */
export class Outage {
  readonly #options: OutageOptions;
  /** `performance.now()` */
  #since: number | undefined;
  #servedAt = Number.NEGATIVE_INFINITY;
  /** Of outages that follow each other closely: when the first began, how many there were, and the reasons that were logged. */
  #firstAt = 0;
  #returns = 0;
  readonly #reasons = new Set<string>();
  #repeatAt = 0;
  /** Whether anything was logged of this one. */
  #isTold = false;

  constructor(options: OutageOptions) {
    this.#options = options;
    options.component?.up();
  }

  get isOn(): boolean {
    return this.#since !== undefined;
  }

  /** It does not serve. Logged if it is time for that, or if the reason is a new one. */
  failed(fields: OutageFields): void {
    const { logger, component, began, lasts = began, level = "warn", firstRepeatMs = FIRST_REPEAT_MS } = this.#options;
    const { reason = "" } = fields;
    component?.down(reason);
    const now = performance.now();
    if (this.#since === undefined) this.#begin(now, firstRepeatMs);
    this.#since ??= now;
    const isNew = this.#reasons.size < MOST_REASONS && !this.#reasons.has(reason);
    const isReturn = !this.#isTold && this.#returns <= MOST_RETURNS;
    if (!isNew && !isReturn && now < this.#repeatAt) return;
    if (isNew) this.#reasons.add(reason);
    this.#repeatAt = now + Math.min(LAST_REPEAT_MS, Math.max(firstRepeatMs, now - this.#firstAt));
    const seconds = Math.round((now - this.#since) / 1_000);
    logger[level]({ ...fields, ...(this.#isTold && { seconds }) }, this.#isTold ? lasts : began);
    this.#isTold = true;
  }

  /** It serves. Logged if it did not, and that was logged. */
  served(fields: Readonly<Record<string, unknown>> = {}): void {
    if (this.#since === undefined) return;
    const now = performance.now();
    const seconds = Math.round((now - this.#since) / 1_000);
    this.#since = undefined;
    this.#servedAt = now;
    if (this.#isTold) this.#options.logger.info({ ...fields, seconds }, this.#options.ended);
    this.#isTold = false;
    this.#options.component?.up();
  }

  #begin(now: number, firstRepeatMs: number): void {
    if (now - this.#servedAt >= firstRepeatMs) {
      this.#firstAt = now;
      this.#returns = 0;
      this.#reasons.clear();
    }
    this.#returns += 1;
  }
}
