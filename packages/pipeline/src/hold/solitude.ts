/**
 * Runs the steps of jobs side by side, except the steps of suspects. Those run alone, so that the death of the process shows which suspect
 * caused it.
 *
 * There are two conflicting goals. To blame a suspect, nothing else may be running, not even for another exporter, because any running step
 * can be the one that killed the process. But a sink that hangs must not stop the others, and a step that runs alone makes all others wait.
 * So:
 *
 *   1. A step of a suspect waits one second for the others to end, and then runs alone for one second: a step that kills usually does so at
 *      once. After that, or if the others do not end, it runs beside them. If the process dies then, no suspect is blamed, but the death is
 *      noted.
 *   2. Each such death makes both times four times as long for this suspect, and the suspect then waits until it can run alone. So a step
 *      that kills late, or among slow ones, is found after a few more deaths. Only deaths make other steps wait longer.
 *   3. In the long run, suspects may take a tenth of the process's time for running alone and waiting for that. When this share is used up,
 *      suspects run beside the others.
 *
 * A step is an action that can kill a process: reading a payload, filtering, one try of a sink. A job that waits for an outage to end is
 * not in a step, and makes no other step wait.
 */
import { pause } from "@celery-metrics-exporter/runtime";
import { GivenBack } from "../host/drain.ts";

const FIRST_MS = 1_000;
const GROWTH = 4;
/** Limit of the growth: 18 hours. No timer takes more than 24 days. */
const MOST_GROWTHS = 8;
const SHARE = 0.1;
/** The share that a process has at first, and can save up: enough for a few suspects one after the other. */
const MOST_SHARE_MS = 4_000;
const POLL_MS = 100;

/** A step of a suspect. */
export interface SuspectStep {
  readonly task: () => Promise<void>;
  /** How often a process died while a step of this job ran beside others. */
  readonly unprovenDeaths: number;
  readonly notes: Notes;
  /** Aborted when the process starts to exit. Steps that are still waiting then do not begin. */
  readonly ending: AbortSignal;
}

/** Notes on the job, for the process that takes it over. */
export interface Notes {
  /** Called before the step runs alone. If the process dies from then on, this step is to blame. */
  readonly alone: () => Promise<void>;
  /** Called before the step runs beside others, from its beginning or later. The cause of a death is not known then. */
  readonly beside: () => Promise<void>;
  /** Called when the step has ended. */
  readonly over: () => Promise<void>;
}

export class Solitude {
  readonly #now: () => number;
  readonly #pause: typeof pause;
  readonly #running = new Set<Promise<unknown>>();
  /** Set while a step runs alone or waits for that. Resolves when the others may go on. */
  #alone: Promise<void> | undefined;
  #shareMs = MOST_SHARE_MS;
  #shareAt: number;

  /** @param now milliseconds, monotonic. */
  constructor(now: () => number = () => performance.now(), wait = pause) {
    this.#now = now;
    this.#pause = wait;
    this.#shareAt = now();
  }

  /** Runs a step beside others. */
  async beside<T>(task: () => Promise<T>): Promise<T> {
    while (this.#alone !== undefined) await this.#alone;
    return this.#run(task);
  }

  /**
   * Runs a step of a suspect, alone if possible.
   *
   * @throws {GivenBack} if the process starts to exit before the step has begun.
   * @throws what the step throws, or what `notes` throws before the step has begun.
   */
  async suspect(step: SuspectStep): Promise<void> {
    const { unprovenDeaths, ending } = step;
    while (this.#alone !== undefined || this.#shareLeft() <= 0) {
      if (this.#alone === undefined && unprovenDeaths === 0) return this.#besideNoted(step);
      await (this.#alone ?? this.#pause(POLL_MS, ending));
      if (ending.aborted) throw new GivenBack();
    }
    const chanceMs = FIRST_MS * GROWTH ** Math.min(unprovenDeaths, MOST_GROWTHS);
    const release = this.#claim();
    try {
      if (await this.#othersEnd(chanceMs, ending)) return await this.#runAlone(step, chanceMs, release);
    } finally {
      release();
    }
    if (ending.aborted) throw new GivenBack();
    return this.#besideNoted(step);
  }

  async #runAlone({ task, notes }: SuspectStep, chanceMs: number, release: () => void): Promise<void> {
    await notes.alone();
    const ended = new AbortController();
    const goOnBeside = async (): Promise<void> => {
      await this.#pause(chanceMs, ended.signal);
      // Noted before the others go on, because the next of them may kill the process.
      if (!ended.signal.aborted) await notes.beside().finally(release);
    };
    // If this fails, the step has not failed.
    const yielding = goOnBeside().catch(() => {});
    try {
      await this.#run(task);
    } finally {
      ended.abort();
      await yielding;
      await notes.over().catch(() => {});
    }
  }

  /** Counts as running while it is being noted, so that no other step starts to run alone in between. */
  async #besideNoted({ task, notes }: SuspectStep): Promise<void> {
    await this.#run(async () => {
      await notes.beside();
      await task().finally(() => notes.over().catch(() => {}));
    });
  }

  async #run<T>(task: () => Promise<T>): Promise<T> {
    const result = task();
    const ended = result.catch(() => {});
    this.#running.add(ended);
    try {
      return await result;
    } finally {
      this.#running.delete(ended);
    }
  }

  /** Stops other steps from beginning until the returned function is called. A second call of it does nothing. */
  #claim(): () => void {
    const since = this.#now();
    const released = new AbortController();
    this.#alone = new Promise((resolve) => released.signal.addEventListener("abort", () => resolve()));
    return () => {
      if (released.signal.aborted) return;
      this.#shareMs = this.#shareLeft() - (this.#now() - since);
      this.#alone = undefined;
      released.abort();
    };
  }

  #shareLeft(): number {
    const now = this.#now();
    this.#shareMs = Math.min(MOST_SHARE_MS, this.#shareMs + (now - this.#shareAt) * SHARE);
    this.#shareAt = now;
    return this.#shareMs;
  }

  /** Whether all running steps end in time. */
  async #othersEnd(patienceMs: number, ending: AbortSignal): Promise<boolean> {
    const decided = new AbortController();
    const late = this.#pause(patienceMs, AbortSignal.any([decided.signal, ending])).then(() => false);
    const all = Promise.all(this.#running).then(() => true);
    const inTime = await Promise.race([all, late]);
    decided.abort();
    return inTime;
  }
}

/** Shared by all roles of this process, because they die together. */
export const processSolitude = new Solitude();
