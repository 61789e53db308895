/** What is noted on the job of a suspect while its steps run, as BullMQ's progress: whoever takes the job over learns what the process died of. */
import { randomUUID } from "node:crypto";
import type { Notes } from "./solitude.ts";
import type { TakenJob } from "../queue/taken-job.ts";
import { tryUntilDecided, type RetryRules } from "../deliver/tries.ts";

/** How often a process died while a step of the job was running. */
export interface Deaths {
  /** Alone: the job is to blame. */
  readonly proven: number;
  /** Beside others. */
  readonly unproven: number;
}

interface Note {
  readonly deaths: number;
  readonly unproven?: number;
  /** How a step is running, and where: still there if the process died meanwhile. */
  readonly running?: "alone" | "beside";
  readonly by?: string;
}

/** This process. A job that comes back to it, because Redis was away for longer than the lock lasts, was nobody's death. */
const SELF = randomUUID();

/** What earlier processes have noted. */
export function deathsOf({ note }: Pick<TakenJob, "note">): Deaths {
  const { deaths, unproven, running, by } = (typeof note === "object" && note !== null ? note : {}) as Partial<Record<keyof Note, unknown>>;
  const died = by === SELF ? undefined : running;
  return { proven: count(deaths) + (died === "alone" ? 1 : 0), unproven: count(unproven) + (died === "beside" ? 1 : 0) };
}

function count(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

/** Notes on one job, as long as it is this process's. */
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
   * Tried once, since everything else waits meanwhile.
   *
   * @throws {UnavailableError} when Redis does not serve.
   * @throws {LostJobError}
   */
  readonly alone = (): Promise<void> => this.#note("alone");

  /** @throws {LetGo} */
  readonly beside = (): Promise<void> => this.#insist("beside");

  /** @throws {LetGo} */
  readonly over = (): Promise<void> => this.#insist(undefined);

  /**
   * Takes the note back when the process begins to end: it may have to leave a step that hangs, or be killed because of it.
   *
   * @returns what ends this.
   */
  takeBackAtEnd(): () => void {
    const { begun } = this.#rules.drain;
    const takeBack = (): void => void this.over().catch(() => {});
    begun.addEventListener("abort", takeBack);
    return () => begun.removeEventListener("abort", takeBack);
  }

  /** Until it is noted, whatever else dies in this process would be this job's fault. */
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
