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
import { GivenBack, tryUntilDecided, type RetryRules } from "../deliver/tries.ts";
import { randomUUID } from "node:crypto";
import type { TakenJob } from "../queue/queue-worker.ts";

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

// Notes on a suspect's job while its steps run, stored as BullMQ's progress. They show the process that takes the job over what its
// predecessor died of.

/** How often a process died while a step of the job was running. */
export interface Deaths {
  /** While it ran alone, so the job is to blame. */
  readonly proven: number;
  /** While it ran beside others. */
  readonly unproven: number;
}

interface Note {
  readonly deaths: number;
  readonly unproven?: number;
  /** How a step is running. It is still set if the process died meanwhile. */
  readonly running?: "alone" | "beside";
  /** The process in which it is running. */
  readonly by?: string;
}

/** This process. If a job comes back to it, Redis was unavailable for longer than the lock lasts, and no process died. */
const SELF = randomUUID();

/** The deaths according to the notes of earlier processes. */
export function deathsOf({ note }: Pick<TakenJob, "note">): Deaths {
  const { deaths, unproven, running, by } = (typeof note === "object" && note !== null ? note : {}) as Partial<Record<keyof Note, unknown>>;
  const died = by === SELF ? undefined : running;
  return { proven: count(deaths) + (died === "alone" ? 1 : 0), unproven: count(unproven) + (died === "beside" ? 1 : 0) };
}

function count(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

/** Notes on one job, as long as this process has the job. */
export class JobNotes implements Notes {
  readonly #job: TakenJob;
  readonly #deaths: Deaths;
  readonly #rules: RetryRules;

  constructor(job: TakenJob, deaths: Deaths, rules: RetryRules) {
    this.#job = job;
    this.#deaths = deaths;
    this.#rules = rules;
  }

  /**
   * Tried only once, because everything else waits meanwhile.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   * @throws {LostJobError}
   */
  readonly alone = (): Promise<void> => this.#note("alone");

  /** @throws {LetGo} */
  readonly beside = (): Promise<void> => this.#insist("beside");

  /** @throws {LetGo} */
  readonly over = (): Promise<void> => this.#insist(undefined);

  /**
   * Takes the note back when the process starts to exit: it may have to abandon a step that hangs, or be killed because of it.
   *
   * @returns a function that stops this.
   */
  takeBackAtEnd(): () => void {
    const { begun } = this.#rules.drain;
    const takeBack = (): void => void this.over().catch(() => {});
    begun.addEventListener("abort", takeBack);
    return () => begun.removeEventListener("abort", takeBack);
  }

  /** Retried until it is noted: otherwise this job would be blamed for whatever else kills this process. */
  async #insist(running: Note["running"]): Promise<void> {
    await tryUntilDecided(() => this.#note(running), this.#rules);
  }

  async #note(running: Note["running"]): Promise<void> {
    const { proven, unproven } = this.#deaths;
    const isRunning = running !== undefined && !this.#rules.drain.begun.aborted;
    const note: Note = { deaths: proven, ...(unproven > 0 && { unproven }), ...(isRunning && { running, by: SELF }) };
    await this.#job.writeNote(note);
  }
}
