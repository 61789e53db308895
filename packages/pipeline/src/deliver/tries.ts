/** Retries a failing operation as long as that makes sense: until the process drains. */
import { PermanentError, TimedOutError, UnavailableError, retry } from "@celery-metrics-exporter/runtime";
import { LetGo } from "../contract/errors.ts";

/** Why an item could not be delivered. */
export interface Failure {
  /** `refused`: the exporter threw `PermanentError`. `slow`: every try timed out. `failed`: every try threw some other error. */
  readonly reason: "refused" | "failed" | "slow";
  readonly error: Error;
}

/** Runs one try of a job's delivery, either alone or at the same time as those of other jobs. */
export type Attempt = (task: () => Promise<void>) => Promise<void>;

/** How often to try in case of unknown errors, and of timeouts. */
export interface Tries {
  readonly errors: number;
  readonly timeouts: number;
}

const FOR_EVER: Tries = { errors: Number.POSITIVE_INFINITY, timeouts: Number.POSITIVE_INFINITY };
export const ONCE: Tries = { errors: 1, timeouts: 1 };

export interface RetryRules {
  readonly drain: Drain;
  readonly onRetry: (reason: "unavailable" | "error") => void;
  /** Called with an error that is neither `PermanentError` nor `UnavailableError`: most likely a bug. */
  readonly onError: (error: Error) => void;
}

/**
 * Tries until it succeeds (undefined) or further tries make no sense.
 *
 * @throws {GivenBack} if the process exits first.
 */
export async function tryUntilDecided(
  attempt: () => Promise<void>,
  rules: RetryRules,
  most: Tries = FOR_EVER,
): Promise<Failure | undefined> {
  const { drain } = rules;
  let failures = 0;
  let [errors, timeouts] = [0, 0];
  const task = async (): Promise<undefined> => {
    if (failures++ > 0 && drain.begun.aborted) throw new GivenBack();
    await attempt();
  };
  const decide = (error: Error): Failure | undefined => {
    if (error instanceof LetGo) throw error;
    if (drain.overdue.aborted) throw new GivenBack();
    if (error instanceof PermanentError) return { reason: "refused", error };
    const isOutage = error instanceof UnavailableError;
    if (!isOutage) rules.onError(error);
    if (!isOutage && ++errors >= most.errors) return { reason: "failed", error };
    if (error instanceof TimedOutError && ++timeouts >= most.timeouts) return { reason: "slow", error };
    rules.onRetry(isOutage ? "unavailable" : "error");
    return undefined;
  };
  return retry(task, { signal: drain.begun, decide });
}

// The shutdown of a host: it finishes the jobs that it can, and gives the others back to their queue.

/** Thrown in place of any result if a job cannot be finished before the process exits. */
export class GivenBack extends LetGo {
  constructor() {
    super("the process is exiting: the job goes back to its queue");
    this.name = "GivenBack";
  }
}

export class Drain {
  readonly #begun = new AbortController();
  readonly #overdue = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  /** Aborted when the drain begins. From then on, nothing waits or retries. */
  get begun(): AbortSignal {
    return this.#begun.signal;
  }

  /** Aborted when tries under way have to stop. Exporters get this signal. */
  get overdue(): AbortSignal {
    return this.#overdue.signal;
  }

  /** @param graceMs how long tries under way may still take; 0 during an outage. */
  begin(graceMs: number): void {
    this.#begun.abort();
    if (graceMs === 0) this.#overdue.abort();
    else this.#timer = setTimeout(() => this.#overdue.abort(), graceMs).unref();
  }

  /** Ends the drain: nothing is under way any more. */
  finish(): void {
    clearTimeout(this.#timer);
  }
}
