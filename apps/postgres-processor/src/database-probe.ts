/** Reports to `/readyz` whether PostgreSQL answers: pings it while no batch is running, and notices if batches get no answer. */
import type { Database } from "@celery-metrics-exporter/db";
import { type ComponentHealth, type Logger, Outage, backoffMs, toError } from "@celery-metrics-exporter/runtime";
import { setTimeout as sleep } from "node:timers/promises";

export interface DatabaseProbeOptions {
  readonly database: Pick<Database, "ping">;
  readonly component: ComponentHealth;
  readonly logger: Logger;
  /**
   * How long statements of batches have been running without any answer; undefined if none is running. A ping would only wait behind them for a
   * connection.
   */
  readonly silentMs: () => number | undefined;
  readonly intervalMs?: number;
}

const INTERVAL_MS = 10_000;
const TICK_MS = 1_000;
/** Silence after which PostgreSQL counts as hung, or the table as locked: a batch takes tens of milliseconds. */
const PATIENCE_MS = 5_000;

/** Works from its creation until `stop`. Assumes at first that the database is up. */
export class DatabaseProbe {
  readonly #options: DatabaseProbeOptions;
  readonly #intervalMs: number;
  readonly #outage: Outage;
  readonly #done: Promise<void>;
  /** Ends the wait between two checks early. */
  #waiting = new AbortController();
  #stopped = false;
  #askAt: number;
  #failures = 0;

  constructor(options: DatabaseProbeOptions) {
    this.#options = options;
    this.#intervalMs = options.intervalMs ?? INTERVAL_MS;
    this.#askAt = performance.now() + this.#intervalMs;
    this.#outage = new Outage({
      component: options.component,
      logger: options.logger,
      began: "PostgreSQL does not answer, retrying until it does",
      ended: "PostgreSQL answers again",
    });
    this.#done = this.#work();
  }

  /** Checks at once: a connection was lost, perhaps the only one. */
  askNow(): void {
    this.#askAt = 0;
    this.#waiting.abort();
  }

  /** Called when the database has answered a batch. */
  answered(): void {
    if (this.#failures === 0) return;
    this.#failures = 0;
    this.#outage.served();
  }

  /** Waits for a running ping. Safe to call twice. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#waiting.abort();
    await this.#done;
  }

  async #work(): Promise<void> {
    for (;;) {
      await this.#wait();
      if (this.#stopped) return;
      const silentMs = this.#options.silentMs();
      if (silentMs === undefined) await this.#askWhenDue();
      else if (silentMs >= PATIENCE_MS) this.#failed(`PostgreSQL has not answered for ${Math.round(silentMs / 1_000)} s`);
    }
  }

  async #askWhenDue(): Promise<void> {
    if (this.#failures === 0 && performance.now() < this.#askAt) return;
    this.#askAt = performance.now() + this.#intervalMs;
    try {
      await this.#options.database.ping();
      this.answered();
    } catch (thrown) {
      this.#failed(toError(thrown).message);
    }
  }

  #failed(reason: string): void {
    this.#outage.failed({ reason });
    this.#failures++;
  }

  async #wait(): Promise<void> {
    const waitMs =
      this.#failures === 0 ? Math.min(this.#intervalMs, TICK_MS) : backoffMs(this.#failures - 1, { firstMs: 500, maxMs: 5_000 });
    const { signal } = this.#waiting;
    // Only an abort ends the wait early.
    await sleep(waitMs, undefined, { signal, ref: false }).catch(() => {});
    if (signal.aborted) this.#waiting = new AbortController();
  }
}
