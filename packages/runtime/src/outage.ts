/** An outage of a dependency: one component in `/readyz`, and one log line. */
import type { Logger } from "./log/logger.ts";
import type { ComponentHealth } from "./process/health.ts";

export interface OutageOptions {
  readonly logger: Logger;
  /** Down during an outage; otherwise up, also initially. */
  readonly component?: ComponentHealth;
  /** Logged when an outage begins. */
  readonly began: string;
  /** Logged while it lasts. Default: `began`. */
  readonly lasts?: string;
  /** Logged when it ends. */
  readonly ended: string;
  /** Default `warn`. */
  readonly level?: "info" | "warn";
  /** Milliseconds until the first repetition of the log line. Doubles each time, up to an hour. Default: one minute. */
  readonly firstRepeatMs?: number;
}

/** Log fields of a failure. */
export interface OutageFields {
  readonly reason?: string;
  /** Logged with its stack and causes if the reason alone does not explain the failure. */
  readonly err?: Error;
  readonly [field: string]: unknown;
}

const FIRST_REPEAT_MS = 60_000;
const LAST_REPEAT_MS = 3_600_000;
/** Limit on distinct reasons logged immediately: some contain an id or an address. */
const MOST_REASONS = 10;
/** Limit on beginnings logged immediately if each follows the previous outage within the first interval. */
const MOST_RETURNS = 5;

/**
 * Logs when an outage begins, for each new reason, at growing intervals while it lasts or flaps, and when it ends. Has no timer: the caller
 * reports every attempt.
 */
export class Outage {
  readonly #options: OutageOptions;
  /** `performance.now()` */
  #since: number | undefined;
  #servedAt = Number.NEGATIVE_INFINITY;
  /** For outages in close succession: when the first began, their number, and the reasons already logged. */
  #firstAt = 0;
  #returns = 0;
  readonly #reasons = new Set<string>();
  #repeatAt = 0;
  /** Whether this outage has been logged. */
  #isLogged = false;

  constructor(options: OutageOptions) {
    this.#options = options;
    options.component?.up();
  }

  get isOn(): boolean {
    return this.#since !== undefined;
  }

  /** Reports a failure. Logs it if the reason is new or a repetition is due. */
  failed(fields: OutageFields): void {
    const { logger, component, began, lasts = began, level = "warn", firstRepeatMs = FIRST_REPEAT_MS } = this.#options;
    const { reason = "" } = fields;
    component?.down(reason);
    const now = performance.now();
    if (this.#since === undefined) this.#begin(now, firstRepeatMs);
    this.#since ??= now;
    const isNew = this.#reasons.size < MOST_REASONS && !this.#reasons.has(reason);
    const isReturn = !this.#isLogged && this.#returns <= MOST_RETURNS;
    if (!isNew && !isReturn && now < this.#repeatAt) return;
    if (isNew) this.#reasons.add(reason);
    this.#repeatAt = now + Math.min(LAST_REPEAT_MS, Math.max(firstRepeatMs, now - this.#firstAt));
    const seconds = Math.round((now - this.#since) / 1_000);
    logger[level]({ ...fields, ...(this.#isLogged && { seconds }) }, this.#isLogged ? lasts : began);
    this.#isLogged = true;
  }

  /** Reports success. Logs the end of an outage that was logged. */
  served(fields: Readonly<Record<string, unknown>> = {}): void {
    if (this.#since === undefined) return;
    const now = performance.now();
    const seconds = Math.round((now - this.#since) / 1_000);
    this.#since = undefined;
    this.#servedAt = now;
    if (this.#isLogged) this.#options.logger.info({ ...fields, seconds }, this.#options.ended);
    this.#isLogged = false;
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
