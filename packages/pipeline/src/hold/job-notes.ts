/**
 * Notes on a suspect's job while its steps run, stored as BullMQ's progress. They show the process that takes the job over what its
 * predecessor died of.
 */
import { randomUUID } from "node:crypto";
import type { Notes } from "./solitude.ts";
import type { TakenJob } from "../queue/taken-job.ts";
import { tryUntilDecided, type RetryRules } from "../deliver/tries.ts";

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
