/** The shutdown of a host: it finishes the jobs that it can, and gives the others back to their queue. */

import { LetGo } from "../contract/errors.ts";

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
