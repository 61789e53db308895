/** Whether a report of a receiver is true of the sink: its events may be put on the queue before the report, and be stored after it. */
import { UnavailableError, pause } from "@celery-metrics-exporter/runtime";
import type { JobList } from "./job-list.ts";
import { isListenedJobId } from "./names.ts";
import { withRedis } from "./redis-errors.ts";
import type { BegunBatches } from "./scheduled-ids.ts";

/** A batch usually takes milliseconds. A report that is left out is replaced by the next, seconds later, but with a slow sink that may be left out too. */
const PATIENCE_MS = 5_000;
const POLL_MS = 50;
/** A worker that is alive was heard again since a batch that has been held for longer, and only what came later counts. */
const HELD_SECONDS = 60;

export interface Report {
  /** The id of its job. */
  readonly id: string;
  /** Until when the receiver listened, in seconds since the epoch. */
  readonly until: number;
}

export class StoredBefore {
  readonly #begun: BegunBatches;
  readonly #held: JobList;
  readonly #heldWorkers: JobList;

  /**
   * @param begun the batches of the queue that are begun.
   * @param held those that were put back.
   * @param heldWorkers those of them that may contain events of workers. What a sink does not take of a task says nothing about a worker.
   */
  constructor(begun: BegunBatches, held: JobList, heldWorkers: JobList) {
    this.#begun = begun;
    this.#held = held;
    this.#heldWorkers = heldWorkers;
  }

  /**
   * Waits a little for the batches under way. False if one of them is not stored then, if one with events of workers was held lately, or if Redis is
   * unavailable.
   */
  async has({ id, until }: Report, ending: AbortSignal): Promise<boolean> {
    try {
      return await withRedis("looking for batches under way", () => this.#has(id, until, ending));
    } catch (thrown) {
      if (thrown instanceof UnavailableError) return false;
      throw thrown;
    }
  }

  async #has(id: string, until: number, ending: AbortSignal): Promise<boolean> {
    let active = await this.#begun.ids();
    let open: readonly string[] = active.filter((each) => each !== id && !isListenedJobId(each));
    const startedAt = performance.now();
    for (;;) {
      const done = new Set(await this.#held.missing(open));
      open = await this.#held.without(open.filter((each) => !done.has(each)));
      if (open.length === 0) break;
      // Put back, because its process exits or has died.
      if (!open.some((each) => active.includes(each))) return false;
      if (ending.aborted || performance.now() - startedAt > PATIENCE_MS) return false;
      await pause(POLL_MS, ending);
      active = await this.#begun.ids();
    }
    const newest = await this.#heldWorkers.newestTimestamp();
    return newest === undefined || newest / 1_000 < until - HELD_SECONDS;
  }
}
