/**
 * Lets what jobs do in a process run side by side, except the steps of suspects: those run alone, so that a process that dies tells which of
 * them it died of.
 *
 * Two things pull against each other. Blame needs that nothing else runs, of any exporter: whatever runs can be what killed the process. And
 * a sink that hangs must not stop the others: a step that is alone keeps all of them waiting. So:
 *
 *   1. A step of a suspect waits a second for the others to end, and is then alone for a second: what kills a process mostly does so at once.
 *      After that, or where the others do not end, it runs beside them. If the process dies then, nobody is blamed, but that is noted too.
 *   2. Each such death makes both times four times as long for this suspect, and it waits until it may be alone. So a step that kills late,
 *      or among slow ones, is found after a few more deaths; and only deaths make anybody wait longer.
 *   3. To be alone, and to wait for that, may take a tenth of the time of the process in the long run. When it is used up, suspects run beside
 *      the others.
 *
 * A step is what can end a process: reading a payload, filtering, one try of a sink. A job that waits for an outage to end is in no step, and
 * keeps nobody waiting.
 */
import { pause } from "@celery-metrics-exporter/runtime";
import { GivenBack } from "../host/drain.ts";

const FIRST_MS = 1_000;
const GROWTH = 4;
/** A day and more: no timer takes much longer. */
const MOST_GROWTHS = 8;
const SHARE = 0.1;
/** What of its share a process has at first and at most: enough for a few suspects one after the other. */
const MOST_SHARE_MS = 4_000;
const POLL_MS = 100;

/** A step of a suspect. */
export interface SuspectStep {
  readonly task: () => Promise<void>;
  /** How often a process died while a step of this job ran beside others. */
  readonly unprovenDeaths: number;
  readonly notes: Notes;
  /** Aborted when the process ends: what has to wait is not begun any more. */
  readonly ending: AbortSignal;
}

/** What is noted on the job, for whoever takes it over. */
export interface Notes {
  /** Resolves before the step begins alone: if the process dies from here on, this step is to blame. */
  readonly alone: () => Promise<void>;
  /** Before it runs beside others, from the beginning or from here on: nobody can tell what a process dies of then. */
  readonly beside: () => Promise<void>;
  /** It has ended. */
  readonly over: () => Promise<void>;
}

export class Solitude {
  readonly #now: () => number;
  readonly #pause: typeof pause;
  readonly #running = new Set<Promise<unknown>>();
  /** Of a step that is alone, or waits to be: resolves when the others may go on. */
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
   * Runs a step of a suspect: alone if possible.
   *
   * @throws {GivenBack} when the process ends before the step has begun.
   * @throws whatever the step throws, or `notes` before it has begun.
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
      // Noted before the others go on: the next of them may end the process.
      if (!ended.signal.aborted) await notes.beside().finally(release);
    };
    // Its failure is none of the step's.
    const yielding = goOnBeside().catch(() => {});
    try {
      await this.#run(task);
    } finally {
      ended.abort();
      await yielding;
      await notes.over().catch(() => {});
    }
  }

  /** Counts as running while it is noted: nobody begins to be alone in between. */
  async #besideNoted({ task, notes }: SuspectStep): Promise<void> {
    await this.#run(async () => {
      await notes.beside();
      await task().finally(() => notes.over().catch(() => {}));
    });
  }

  async #run<T>(task: () => Promise<T>): Promise<T> {
    const result = task();
    const settled = result.catch(() => {});
    this.#running.add(settled);
    try {
      return await result;
    } finally {
      this.#running.delete(settled);
    }
  }

  /** Nothing begins until what this returns is called; a second call does nothing. */
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

  /** Whether all that runs ends in time. */
  async #othersEnd(patienceMs: number, ending: AbortSignal): Promise<boolean> {
    const decided = new AbortController();
    const late = this.#pause(patienceMs, AbortSignal.any([decided.signal, ending])).then(() => false);
    const all = Promise.all(this.#running).then(() => true);
    const inTime = await Promise.race([all, late]);
    decided.abort();
    return inTime;
  }
}

/** The one of this process: the roles of a single process share it, since they die together. */
export const processSolitude = new Solitude();
