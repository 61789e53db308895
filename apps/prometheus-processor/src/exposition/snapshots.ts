/** What the last complete look at Redis showed, shared by all scrapes of a moment. */
import { UnavailableError, toError } from "@celery-metrics-exporter/runtime";

export interface SnapshotsOptions<S> {
  /** Reads everything. */
  readonly read: () => Promise<S>;
  /** How long a snapshot answers scrapes without another look, in milliseconds. */
  readonly freshMs?: number;
  /** How long it may answer when Redis cannot be read, in milliseconds. */
  readonly staleMs?: number;
  /** How long a scrape waits for Redis, in milliseconds. */
  readonly patienceMs?: number;
  /** What was read before this time is not shown any more, by `now`. */
  readonly notBefore?: () => number;
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
    this.#options = { freshMs: 1_000, staleMs: 60_000, patienceMs: 1_000, notBefore: () => 0, now: () => performance.now(), ...options };
  }

  /**
   * The last snapshot, if it is fresh; otherwise a new one. If Redis does not answer in time, an older one up to `staleMs`.
   *
   * @throws {UnavailableError} if there is none.
   */
  async get(): Promise<Snapshot<S>> {
    const { freshMs, patienceMs } = this.#options;
    if (this.#ageMs > freshMs) {
      const reading = (this.#reading ??= this.#read().finally(() => void (this.#reading = undefined)));
      try {
        await Promise.race([reading, failLater(patienceMs)]);
      } catch (thrown) {
        return this.last(toError(thrown));
      }
    }
    return this.last();
  }

  /**
   * The last snapshot, without another look.
   *
   * @param reason why there may be no newer one.
   * @throws {UnavailableError} if there is none that is not older than `staleMs`.
   */
  last(reason?: Error): Snapshot<S> {
    const ageMs = this.#ageMs;
    if (this.#last !== undefined && ageMs <= this.#options.staleMs) return { content: this.#last.content, ageMs };
    throw new UnavailableError(`The counts cannot be read: ${reason?.message ?? "Redis does not answer"}`, { cause: reason });
  }

  /** Forgets everything: another process shows the series now. */
  clear(): void {
    this.#last = undefined;
  }

  get #ageMs(): number {
    return this.#last === undefined || this.#last.at < this.#options.notBefore()
      ? Number.POSITIVE_INFINITY
      : this.#options.now() - this.#last.at;
  }

  async #read(): Promise<void> {
    const at = this.#options.now();
    const content = await this.#options.read();
    this.#last = { content, at };
  }
}

async function failLater(delayMs: number): Promise<never> {
  await new Promise((resolve) => setTimeout(resolve, delayMs).unref());
  throw new Error("Redis does not answer in time");
}
