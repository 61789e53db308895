/** The end of a host: jobs that can be finished are, the others go back to their queue. */

import { LetGo } from "../contract/errors.ts";

/** Thrown in place of any result when a job cannot be finished before the process ends. */
export class GivenBack extends LetGo {
  constructor() {
    super("the process ends: the job goes back to its queue");
    this.name = "GivenBack";
  }
}

export class Drain {
  readonly #begun = new AbortController();
  readonly #overdue = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  /** Aborted when the drain begins: from now on nothing is waited for or tried again. */
  get begun(): AbortSignal {
    return this.#begun.signal;
  }

  /** Aborted when what is being tried has to stop: this is the signal that exporters get. */
  get overdue(): AbortSignal {
    return this.#overdue.signal;
  }

  /** @param graceMs how long tries that are under way may take; 0 during an outage. */
  begin(graceMs: number): void {
    this.#begun.abort();
    if (graceMs === 0) this.#overdue.abort();
    else this.#timer = setTimeout(() => this.#overdue.abort(), graceMs).unref();
  }

  /** Nothing is under way any more. */
  finish(): void {
    clearTimeout(this.#timer);
  }
}
