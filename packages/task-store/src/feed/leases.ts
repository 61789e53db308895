/** Renews the leases of a job while its tasks are being reported, however long that takes. */
import { Repeat } from "@celery-metrics-exporter/runtime";
import type { TaskStore } from "../task-store.ts";

export interface LeasesOptions {
  readonly store: Pick<TaskStore, "renew" | "leaseMs">;
  readonly jobId: string;
  readonly ids: readonly string[];
  /** When the leases were requested, by `performance.now()`. */
  readonly askedAt: number;
}

/** How often a lease is renewed before it would expire, because a try may fail or come late. */
const TRIES = 3;

/** Renews from its creation until `stop`. */
export class Leases {
  readonly #options: LeasesOptions;
  readonly #renewals: Repeat;
  readonly #lost = new Set<string>();
  /** When they were last requested. They last at least `leaseMs` from then. */
  #askedAt: number;

  constructor(options: LeasesOptions) {
    this.#options = options;
    this.#askedAt = options.askedAt;
    // A failure is not reported here: the next call to the Store reports the outage.
    this.#renewals = new Repeat(() => this.#renew(), { everyMs: options.store.leaseMs / TRIES });
  }

  /**
   * Resolves with the ids of lost leases, once the others are certain to last for a while. Asks the Store only if the last answer is old,
   * for example after an outage of Redis or if the process got no CPU. Settled and released tasks count as lost.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async lost(): Promise<ReadonlySet<string>> {
    if (performance.now() - this.#askedAt > this.#options.store.leaseMs / 2) await this.#renew();
    return this.#lost;
  }

  /** Resolves when the last try is over. Never rejects. */
  async stop(): Promise<void> {
    await this.#renewals.stop();
  }

  async #renew(): Promise<void> {
    const { store, jobId, ids } = this.#options;
    const askedAt = performance.now();
    for (const id of await store.renew(jobId, ids)) this.#lost.add(id);
    this.#askedAt = askedAt;
  }
}
