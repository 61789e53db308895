/** Tells `/readyz` whether PostgreSQL answers: asks it while no batch does, and notices when batches wait in vain. */
import type { Database } from "@celery-metrics-exporter/db";
import { type ComponentHealth, type Logger, Outage, backoffMs, toError } from "@celery-metrics-exporter/runtime";
import { setTimeout as sleep } from "node:timers/promises";

export interface DatabaseProbeOptions {
  readonly database: Pick<Database, "ping">;
  readonly component: ComponentHealth;
  readonly logger: Logger;
  /**
   * For how long statements of batches have run without an answer to any; undefined while none runs. A ping would only wait behind them for a
   * connection.
   */
  readonly silentMs: () => number | undefined;
  readonly intervalMs?: number;
}

const INTERVAL_MS = 10_000;
const TICK_MS = 1_000;
/** A batch takes tens of milliseconds: PostgreSQL hangs, or somebody has locked the table. */
const PATIENCE_MS = 5_000;

/** Works from its creation, where the database is taken to be up, until `stop`. */
export class DatabaseProbe {
  readonly #options: DatabaseProbeOptions;
  readonly #intervalMs: number;
  readonly #outage: Outage;
  readonly #done: Promise<void>;
  /** Ends the wait between two looks early. */
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
      began: "PostgreSQL does not answer, asking again until it does",
      ended: "PostgreSQL answers again",
    });
    this.#done = this.#work();
  }

  /** Asks at once: a connection was lost, which may be the only one. */
  askNow(): void {
    this.#askAt = 0;
    this.#waiting.abort();
  }

  /** The database has answered somebody else. */
  answered(): void {
    if (this.#failures === 0) return;
    this.#failures = 0;
    this.#outage.served();
  }

  /** Waits for the ping that runs. Safe twice. */
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
    // Only an abort ends it early.
    await sleep(waitMs, undefined, { signal, ref: false }).catch(() => {});
    if (signal.aborted) this.#waiting = new AbortController();
  }
}
