/** The filters' part in a host: what it exports of a batch, and what its exporter has to forget. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { TimedOutError, UnavailableError, pause } from "@celery-metrics-exporter/runtime";
import { randomUUID } from "node:crypto";
import { type AttemptMemory, hasUnwanted, standingOf } from "./attempt-memory.ts";
import { type BatchFilter, admitAll, excludedIn, idsOf, withoutTasks } from "./batch-filter.ts";
import type { EventBatch } from "../queue/batch.ts";

/** What a host exports of a batch. */
export interface Screened {
  readonly events: readonly CeleryEvent[];
  /** Tasks that may have to be forgotten, whatever was exported of them before. */
  readonly told: readonly string[];
  /** Whether tasks of these events may turn out to be excluded while they are exported. */
  readonly doubtful: boolean;
}

export interface HostFilterOptions {
  /** The host's own, if any is set. */
  readonly own: BatchFilter | undefined;
  /** What the receiver has told, which may have other filters. */
  readonly told: AttemptMemory;
}

/** Half of what a lock lasts, and less: who forgets must be done before others take it for dead. */
const FORGETTING_MS = 20_000;

/**
 * Why nothing remains of an excluded task, and nothing is deleted of one that is kept, though batches come in any order, at the same time, and
 * some wait for hours.
 *
 * Let B be a batch that tells X to be excluded, and A any batch with events of X that passed before. B does: note it; forget X. A does: export;
 * look X up; forget X if it is excluded. Of the two sequences,
 *
 *   - either A's look-up comes after B's note: then A itself forgets X after its export;
 *   - or it comes before: then A's export, which came before that, comes before B's forgetting, which removes it.
 *
 * Let C be a batch with events of X after X is kept again. C does: note it; wait while X is locked; export. Whoever forgets does: lock X and look
 * it up, in one step; remove it if it is excluded; unlock it. Of the two,
 *
 *   - either the look-up comes after C's note: then X is not removed;
 *   - or it comes before: then C finds X locked, and exports after the removal.
 *
 * What is removed in the second case had passed while nothing was known of it, and comes again with the batch that keeps X (`BatchFilter`).
 *
 * A batch that is repeated repeats its sequence whole, and so does a try to forget.
 */
export class HostFilter {
  readonly #own: BatchFilter | undefined;
  readonly #told: AttemptMemory;

  constructor({ own, told }: HostFilterOptions) {
    this.#own = own;
    this.#told = told;
  }

  /**
   * Before the export.
   *
   * @throws {UnavailableError} when Redis does not serve, or a task of the batch is just being forgotten: call again.
   */
  async screen({ events, told = [], doubtful = false }: EventBatch): Promise<Screened> {
    const known = await this.#told.note(new Map(told.map(({ id, marks }) => [id, { marks }])));
    for (const [id, { marks, isLocked }] of known) {
      if (isLocked && standingOf(marks) === "kept" && hasUnwanted(marks)) throw beingForgotten(id);
    }
    const left = withoutTasks(events, new Set(excludedIn(known)));
    const admitted = this.#own === undefined ? admitAll(left) : await this.#own.admit(left);
    return {
      events: admitted.events,
      told: [...told, ...admitted.told].map(({ id }) => id),
      doubtful: doubtful || admitted.doubtful,
    };
  }

  /**
   * After the export: the tasks that the exporter has to forget.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async leftovers({ events, told, doubtful }: Screened): Promise<string[]> {
    const ids = new Set([...told, ...(doubtful ? idsOf(events) : [])]);
    if (ids.size === 0) return [];
    const excluded = excludedIn(await this.#told.note(new Map([...ids].map((id) => [id, undefined]))));
    return [...new Set([...excluded, ...((await this.#own?.excludedAmong(ids)) ?? [])])];
  }

  /**
   * One try to forget. Those of the tasks that are kept meanwhile are left out.
   *
   * @param forget not called where none is left.
   * @returns for how many there was something to remove.
   * @throws {UnavailableError} when Redis does not serve, or it takes too long; and what `forget` throws.
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

  /** Undefined if another is just forgetting one of them. */
  async #tryToForget(ids: readonly string[], forget: Forget, signal: AbortSignal): Promise<number | undefined> {
    const holder = randomUUID();
    const own = this.#own?.memory;
    const memories = own === undefined ? [this.#told] : [this.#told, own];
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
      // What was broken off may still be under way: then the locks stand until they expire.
      if (!signal.aborted) for (const memory of memories) await memory.unlock(ids, holder).catch(() => {});
    }
  }
}

/** Removes tasks, and has removed them when it resolves: with the number of those of which there was something, if not of all. */
type Forget = (ids: readonly string[], signal: AbortSignal) => Promise<number | void>;

function beingForgotten(id: string): UnavailableError {
  return new UnavailableError(`task ${id} is just being forgotten`);
}

/** A signal that follows another, and is aborted when the time is over. `AbortSignal.any` keeps a little memory each time (Node.js 20). */
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
