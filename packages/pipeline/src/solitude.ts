/** Lets the tries of all jobs in a process run side by side, except those that have to run alone. */
import { pause } from "@celery-metrics-exporter/runtime";

/** Thrown when a try could not run alone in time. Nothing was tried: put the job off, and take it again later. */
export class NotAloneError extends Error {
  constructor() {
    super("other jobs did not finish in time for a job that has to run alone");
    this.name = "NotAloneError";
  }
}

/** How long a try that has to be alone waits for the others to end. It holds up all that come after it meanwhile, of every exporter. */
const PATIENCE_MS = 2_000;
/** How long it may keep the others waiting. By then it has had its chance to end the process. */
const MOST_MS = 10_000;

/**
 * Only what is being tried counts as running: a job that waits for an outage to end holds up nobody, and an outage of one exporter does not
 * stop another.
 */
export class Solitude {
  readonly #running = new Set<Promise<unknown>>();
  #alone: Promise<void> | undefined;

  /** Runs a try beside others. */
  async beside<T>(task: () => Promise<T>): Promise<T> {
    while (this.#alone !== undefined) await this.#alone;
    const result = task();
    const settled = result.catch(() => {});
    this.#running.add(settled);
    try {
      return await result;
    } finally {
      this.#running.delete(settled);
    }
  }

  /**
   * Runs a try while nothing else runs.
   *
   * @param began resolves before the try begins. From here on, if the process dies, this try is to blame.
   * @param ended called when it no longer runs alone: it is over, or has taken too long to keep the others waiting.
   * @throws {NotAloneError} when the others do not end in time.
   */
  async alone(task: () => Promise<void>, began: () => Promise<void>, ended: () => Promise<void>): Promise<void> {
    if (this.#alone !== undefined) throw new NotAloneError();
    const over = new AbortController();
    this.#alone = new Promise((resolve) => over.signal.addEventListener("abort", () => resolve()));
    const release = (): void => {
      if (over.signal.aborted) return;
      this.#alone = undefined;
      over.abort();
    };
    try {
      if (!(await this.#othersEnd())) throw new NotAloneError();
      await began();
      const done = new AbortController();
      // Noted before the others go on: the next of them may end the process.
      const ending = pause(MOST_MS, done.signal).then(ended).finally(release);
      try {
        await task();
      } finally {
        done.abort();
        await ending;
      }
    } finally {
      release();
    }
  }

  async #othersEnd(): Promise<boolean> {
    const impatient = new AbortController();
    const waiting = pause(PATIENCE_MS, impatient.signal).then(() => false);
    const all = Promise.all(this.#running).then(() => true);
    const inTime = await Promise.race([all, waiting]);
    impatient.abort();
    return inTime;
  }
}

/** The one of this process: the roles of a single process share it, since they die together. */
export const processSolitude = new Solitude();
