/** The filters in a host: they decide what it exports of a batch, and what its exporter has to forget. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { TimedOutError, UnavailableError, pause } from "@celery-metrics-exporter/runtime";
import { randomUUID } from "node:crypto";
import { type AttemptMemory, hasUnwanted, standingOf } from "./attempt-memory.ts";
import { type BatchFilter, admitAll, excludedIn, idsOf, withoutTasks } from "./batch-filter.ts";
import type { EventBatch } from "../queue/batch.ts";

/** What a host exports of a batch. */
export interface Screened {
  readonly events: readonly CeleryEvent[];
  /** Marked tasks. They may have to be forgotten, whatever was exported of them before. */
  readonly marked: readonly string[];
  /** Whether tasks with events here may turn out to be excluded while they are exported. */
  readonly doubtful: boolean;
}

export interface HostFilterOptions {
  /** The host's own filter, if any is set. */
  readonly own: BatchFilter | undefined;
  /** The marks of the receiver, which may have other filters. */
  readonly attempts: AttemptMemory;
}

/** Time limit for forgetting. It must end well before the locks expire (60 s), because other processes go on then. */
const FORGETTING_MS = 20_000;

/**
 * Proof that nothing remains of an excluded task, and nothing of a kept task is deleted, although batches come in any order and at the same
 * time, and some wait for hours.
 *
 * Let B be a batch that marks task X as excluded, and A any batch with events of X that passed before. B's steps are: note this; forget
 * X. A's steps are: export; look X up; forget X if it is excluded. There are two cases:
 *
 *   - A's look-up comes after B's note. Then A itself forgets X after its export.
 *   - A's look-up comes before B's note. Then A's export, which comes before its look-up, also comes before B forgets X. So B removes it.
 *
 * Let C be a batch with events of X that comes when X is kept again. C's steps are: note this; wait while X is locked; export. The steps of
 * any batch that forgets X are: lock X and look it up, in one step; remove X if it is excluded; unlock X. There are two cases:
 *
 *   - The look-up comes after C's note. Then X is not removed.
 *   - The look-up comes before C's note. Then C finds X locked, and exports after the removal.
 *
 * What is removed in this last case had passed while nothing was known of X. It comes again with the batch that keeps X (`BatchFilter`).
 *
 * A repeated batch repeats its whole sequence, and so does a repeated try to forget.
 */
export class HostFilter {
  readonly #own: BatchFilter | undefined;
  readonly #attempts: AttemptMemory;

  constructor({ own, attempts }: HostFilterOptions) {
    this.#own = own;
    this.#attempts = attempts;
  }

  /**
   * Decides what to export. Call it before the export.
   *
   * @throws {UnavailableError} if Redis is unavailable, or if a task of the batch is being forgotten now. Call again.
   */
  async screen({ events, marked = [], doubtful = false }: EventBatch): Promise<Screened> {
    const known = await this.#attempts.note(new Map(marked.map(({ id, marks }) => [id, { marks }])));
    for (const [id, { marks, isLocked }] of known) {
      if (isLocked && standingOf(marks) === "kept" && hasUnwanted(marks)) throw beingForgotten(id);
    }
    const left = withoutTasks(events, new Set(excludedIn(known)));
    const admitted = this.#own === undefined ? admitAll(left) : await this.#own.admit(left);
    return {
      events: admitted.events,
      marked: [...marked, ...admitted.marked].map(({ id }) => id),
      doubtful: doubtful || admitted.doubtful,
    };
  }

  /**
   * The tasks that the exporter has to forget. Call it after the export.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async leftovers({ events, marked, doubtful }: Screened): Promise<string[]> {
    const ids = new Set([...marked, ...(doubtful ? idsOf(events) : [])]);
    if (ids.size === 0) return [];
    const excluded = excludedIn(await this.#attempts.note(new Map([...ids].map((id) => [id, undefined]))));
    return [...new Set([...excluded, ...((await this.#own?.excludedAmong(ids)) ?? [])])];
  }

  /**
   * One try to forget tasks. Leaves out tasks that are kept by now.
   *
   * @param forget not called if no task is left.
   * @returns the number of tasks for which there was something to remove.
   * @throws {UnavailableError} if Redis is unavailable or it takes too long; also throws what `forget` throws.
   */
  async forget(ids: readonly string[], signal: AbortSignal, forget: Forget): Promise<number> {
    const timeLimit = timeLimited(signal);
    try {
      for (;;) {
        const forgotten = await this.#tryToForget(ids, forget, timeLimit.signal);
        if (forgotten !== undefined) return forgotten;
        await pause(50 + Math.random() * 100, timeLimit.signal);
        timeLimit.signal.throwIfAborted();
      }
    } catch (thrown) {
      if (timeLimit.isOver()) throw new TimedOutError("forgetting tasks took too long", { cause: thrown });
      throw thrown;
    } finally {
      timeLimit.end();
    }
  }

  /** Undefined if another process is forgetting one of them now. */
  async #tryToForget(ids: readonly string[], forget: Forget, signal: AbortSignal): Promise<number | undefined> {
    const holder = randomUUID();
    const own = this.#own?.memory;
    const memories = own === undefined ? [this.#attempts] : [this.#attempts, own];
    try {
      const excluded = new Set<string>();
      for (const memory of memories) {
        const known = await memory.lock(ids, holder);
        if ([...known.values()].some(({ isLocked }) => isLocked)) return undefined;
        for (const id of excludedIn(known)) excluded.add(id);
      }
      if (excluded.size === 0) return 0;
      return (await forget([...excluded], signal)) ?? excluded.size;
    } finally {
      // An aborted `forget` may still be under way, so its locks stay until they expire.
      if (!signal.aborted) for (const memory of memories) await memory.unlock(ids, holder).catch(() => {});
    }
  }
}

/** Removes tasks. Resolves once they are removed, with the number of tasks for which there was something to remove, if not all. */
type Forget = (ids: readonly string[], signal: AbortSignal) => Promise<number | void>;

function beingForgotten(id: string): UnavailableError {
  return new UnavailableError(`task ${id} is being forgotten`);
}

/**
 * A signal that follows another one, and is also aborted after a time limit. `AbortSignal.any` leaks a little memory each time (Node.js
 * 20).
 */
function timeLimited(signal: AbortSignal): { readonly signal: AbortSignal; isOver(): boolean; end(): void } {
  const controller = new AbortController();
  let isOver = false;
  const abort = (): void => controller.abort(signal.reason);
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort, { once: true });
  const timer = setTimeout(() => {
    isOver = true;
    controller.abort(new Error("it took too long"));
  }, FORGETTING_MS);
  return {
    signal: controller.signal,
    isOver: () => isOver,
    end: () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    },
  };
}
