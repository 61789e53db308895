/** Asks PostgreSQL for an answer while no batch does, so that `/readyz` tells that it is gone. */
import type { Database } from "@celery-metrics-exporter/db";
import { backoffMs, toError, type ComponentHealth, type Logger } from "@celery-metrics-exporter/runtime";
import { setTimeout as sleep } from "node:timers/promises";

export interface DatabaseProbeOptions {
  readonly database: Pick<Database, "ping">;
  readonly component: ComponentHealth;
  readonly logger: Logger;
  /** While batches are at work they tell as much, and a ping would only wait behind them for a connection. */
  readonly isBusy: () => boolean;
  readonly intervalMs?: number;
}

const INTERVAL_MS = 10_000;

/** Works from its creation, where the database is taken to be up, until `stop`. */
export class DatabaseProbe {
  readonly #options: DatabaseProbeOptions;
  readonly #stopped = new AbortController();
  readonly #done: Promise<void>;
  #early = new AbortController();
  #failures = 0;

  constructor(options: DatabaseProbeOptions) {
    this.#options = options;
    options.component.up();
    this.#done = this.#work();
  }

  /** Asks at once: a connection was lost, which may be the only one. */
  askNow(): void {
    this.#early.abort();
  }

  /** The database has answered somebody else. */
  answered(): void {
    if (this.#failures === 0) return;
    this.#failures = 0;
    this.#options.component.up();
    this.#options.logger.info("PostgreSQL answers again");
  }

  /** Waits for the ping that runs. Safe twice. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#done;
  }

  async #work(): Promise<void> {
    for (;;) {
      await this.#wait();
      if (this.#stopped.signal.aborted) return;
      if (!this.#options.isBusy()) await this.#ask();
    }
  }

  async #ask(): Promise<void> {
    const { database, component, logger } = this.#options;
    try {
      await database.ping();
      this.answered();
    } catch (thrown) {
      const reason = toError(thrown).message;
      component.down(reason);
      if (this.#failures === 0) logger.warn({ reason }, "PostgreSQL does not answer, asking again until it does");
      this.#failures++;
    }
  }

  async #wait(): Promise<void> {
    const { intervalMs = INTERVAL_MS } = this.#options;
    const waitMs = this.#failures === 0 ? intervalMs : backoffMs(this.#failures - 1, { firstMs: 500, maxMs: 5_000 });
    const signal = AbortSignal.any([this.#stopped.signal, this.#early.signal]);
    // Only an abort ends it early.
    await sleep(waitMs, undefined, { signal, ref: false }).catch(() => {});
    if (this.#early.signal.aborted) this.#early = new AbortController();
  }
}
