/** What the last complete look at Redis showed, shared by all scrapes of a moment. */
import { UnavailableError, toError } from "@celery-metrics-exporter/runtime";

export interface SnapshotsOptions<S> {
  /** Reads everything. */
  readonly read: () => Promise<S>;
  /** How long a snapshot answers scrapes without another look, in milliseconds. */
  readonly freshMs?: number;
  /** How long it may answer when Redis cannot be read, in milliseconds. */
  readonly staleMs?: number;
  /** How long a scrape waits for Redis if there is an older snapshot, in milliseconds. */
  readonly patienceMs?: number;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

export interface Snapshot<S> {
  readonly content: S;
  readonly ageMs: number;
}

export class Snapshots<S> {
  readonly #options: Required<SnapshotsOptions<S>>;
  #last: { readonly content: S; readonly at: number } | undefined;
  #reading: Promise<void> | undefined;

  constructor(options: SnapshotsOptions<S>) {
    this.#options = { freshMs: 1_000, staleMs: 60_000, patienceMs: 1_000, now: () => performance.now(), ...options };
  }

  /**
   * The last snapshot, if it is fresh; otherwise a new one. If Redis does not answer in time, an older one up to `staleMs`.
   *
   * @throws {UnavailableError} if there is none.
   */
  async get(): Promise<Snapshot<S>> {
    const { freshMs, staleMs, patienceMs, now } = this.#options;
    if (this.#last === undefined || now() - this.#last.at > freshMs) {
      const reading = (this.#reading ??= this.#read().finally(() => void (this.#reading = undefined)));
      const isOldEnough = this.#last !== undefined && now() - this.#last.at <= staleMs;
      try {
        await (isOldEnough ? Promise.race([reading, later(patienceMs)]) : Promise.race([reading, failLater(10 * patienceMs)]));
      } catch (thrown) {
        if (!isOldEnough) throw new UnavailableError(`The counts cannot be read: ${toError(thrown).message}`, { cause: toError(thrown) });
      }
    }
    const last = this.#last;
    if (last === undefined || now() - last.at > staleMs) throw new UnavailableError("The counts cannot be read.");
    return { content: last.content, ageMs: now() - last.at };
  }

  /** Forgets everything: another process shows the series now. */
  clear(): void {
    this.#last = undefined;
  }

  async #read(): Promise<void> {
    const at = this.#options.now();
    const content = await this.#options.read();
    this.#last = { content, at };
  }
}

function later(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs).unref());
}

async function failLater(delayMs: number): Promise<never> {
  await later(delayMs);
  throw new Error("Redis does not answer in time");
}
