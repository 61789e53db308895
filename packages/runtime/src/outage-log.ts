/** Logs that something does not serve: when that begins, with each new reason, at growing intervals while it lasts, and when it is over. */
import type { Logger } from "./logger.ts";

export interface OutageLogOptions {
  readonly logger: Logger;
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
  readonly reason: string;
  readonly [field: string]: unknown;
}

const FIRST_REPEAT_MS = 60_000;
const LAST_REPEAT_MS = 3_600_000;
/** So many different reasons are logged at once: some have an id or an address in them. */
const MOST_REASONS = 10;

/** Keeps no timer: whoever tries again tells of each try. */
export class OutageLog {
  readonly #options: OutageLogOptions;
  /** `performance.now()` */
  #since: number | undefined;
  #repeatAt = 0;
  /** Those that were logged in this outage. */
  readonly #reasons = new Set<string>();

  constructor(options: OutageLogOptions) {
    this.#options = options;
  }

  get isOn(): boolean {
    return this.#since !== undefined;
  }

  /** It does not serve. Says so if it is time for that, or if the reason is a new one. */
  failed(fields: OutageFields): void {
    const { logger, began, lasts = began, level = "warn", firstRepeatMs = FIRST_REPEAT_MS } = this.#options;
    const now = performance.now();
    const isFirst = this.#since === undefined;
    this.#since ??= now;
    const isNew = this.#reasons.size < MOST_REASONS && !this.#reasons.has(fields.reason);
    if (!isNew && now < this.#repeatAt) return;
    if (isNew) this.#reasons.add(fields.reason);
    const lasted = now - this.#since;
    this.#repeatAt = now + Math.min(LAST_REPEAT_MS, Math.max(firstRepeatMs, lasted));
    logger[level]({ ...fields, ...(!isFirst && { seconds: Math.round(lasted / 1_000) }) }, isFirst ? began : lasts);
  }

  /** It serves. Says so if it did not. */
  served(fields: Readonly<Record<string, unknown>> = {}): void {
    if (this.#since === undefined) return;
    const seconds = Math.round((performance.now() - this.#since) / 1_000);
    this.#since = undefined;
    this.#reasons.clear();
    this.#options.logger.info({ ...fields, seconds }, this.#options.ended);
  }
}
