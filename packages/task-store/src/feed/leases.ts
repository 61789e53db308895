/** The leases of a job: kept from ending while its tasks are being sent, however long that takes. */
import { pause } from "@celery-metrics-exporter/runtime";
import type { TaskStore } from "../task-store.ts";

export interface LeasesOptions {
  readonly store: Pick<TaskStore, "renew">;
  readonly jobId: string;
  readonly ids: readonly string[];
  readonly leaseMs: number;
  /** When they were asked for, by `performance.now()`. */
  readonly askedAt: number;
}

/** Times a lease is renewed before it would end: a try may fail, or come late. */
const TRIES = 3;

/** Renewed from its creation until `stop`. */
export class Leases {
  readonly #options: LeasesOptions;
  readonly #stopped = new AbortController();
  readonly #done: Promise<void>;
  readonly #lost = new Set<string>();
  /** They last at least until this and the lease. */
  #askedAt: number;

  constructor(options: LeasesOptions) {
    this.#options = options;
    this.#askedAt = options.askedAt;
    this.#done = this.#keep();
  }

  /**
   * Resolves with what was lost, once the others are sure to be held for a good while: asks the Store only if the last answer is old, as after
   * an outage of Redis, or when the process got no CPU. What was settled or released counts as lost.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async lost(): Promise<ReadonlySet<string>> {
    if (performance.now() - this.#askedAt > this.#options.leaseMs / 2) await this.#renew();
    return this.#lost;
  }

  /** Resolves when the last try is over. Never rejects. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#done;
  }

  async #keep(): Promise<void> {
    const { signal } = this.#stopped;
    for (;;) {
      await pause(this.#options.leaseMs / TRIES, signal);
      if (signal.aborted) return;
      // Its loss is noticed by whoever needs the Store next.
      await this.#renew().catch(() => {});
    }
  }

  async #renew(): Promise<void> {
    const { store, jobId, ids } = this.#options;
    const askedAt = performance.now();
    for (const id of await store.renew(jobId, ids)) this.#lost.add(id);
    this.#askedAt = askedAt;
  }
}
