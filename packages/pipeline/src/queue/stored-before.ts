/** Whether a report of a receiver is true of the sink: its events may be put on the queue before the report, and be stored after it. */
import { UnavailableError, pause } from "@celery-metrics-exporter/runtime";
import type { JobList } from "./job-list.ts";
import { isListenedJobId } from "./names.ts";
import { withRedis } from "./redis-errors.ts";
import type { BegunBatches } from "./scheduled-ids.ts";

/** A batch usually takes milliseconds. A report that is left out is replaced by the next, seconds later. */
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

  /** @param begun the batches of the queue that are begun. @param held those that were put back. */
  constructor(begun: BegunBatches, held: JobList) {
    this.#begun = begun;
    this.#held = held;
  }

  /** Waits a little for the batches under way. False if one of them is not stored then, if one was held lately, or if Redis is unavailable. */
  async has({ id, until }: Report, ending: AbortSignal): Promise<boolean> {
    try {
      return await withRedis("looking for batches under way", () => this.#has(id, until, ending));
    } catch (thrown) {
      if (thrown instanceof UnavailableError) return false;
      throw thrown;
    }
  }

  async #has(id: string, until: number, ending: AbortSignal): Promise<boolean> {
    const underWay = (await this.#begun.ids()).filter((each) => each !== id && !isListenedJobId(each));
    const startedAt = performance.now();
    for (let active: readonly string[] = underWay; underWay.some((each) => active.includes(each)); active = await this.#begun.ids()) {
      if (ending.aborted || performance.now() - startedAt > PATIENCE_MS) return false;
      await pause(POLL_MS, ending);
    }
    if (await this.#begun.areUnfinished(underWay)) return false;
    const newest = await this.#held.newestTimestamp();
    return newest === undefined || newest / 1_000 < until - HELD_SECONDS;
  }
}
