/** Periodic work. */
import { toError } from "./errors.ts";

export interface RepeatOptions {
  /** From the end of one run to the next. */
  readonly everyMs: number | (() => number);
  /** When the first run begins. Default: after `everyMs`. */
  readonly first?: "now" | "later";
  /** Called when a run fails, which does not end the repetition. */
  readonly onError?: (error: Error) => void;
}

/** Does some work again and again, one run at a time, from its creation until `stop`. Does not keep the process alive. */
export class Repeat {
  readonly #work: (signal: AbortSignal) => unknown;
  readonly #options: RepeatOptions;
  readonly #stopped = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  /** Of `first: "now"`: resolves when that run is over, whatever came of it. */
  readonly firstRun: Promise<void>;

  /** @param work gets a signal that is aborted by `stop`. */
  constructor(work: (signal: AbortSignal) => unknown, options: RepeatOptions) {
    this.#work = work;
    this.#options = options;
    if (options.first === "now") this.#run();
    else this.#wait();
    this.firstRun = this.#running;
  }

  /** Begins no further run, and resolves when the one under way is over. Safe twice. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    clearTimeout(this.#timer);
    await this.#running;
  }

  #wait(): void {
    if (this.#stopped.signal.aborted) return;
    const { everyMs } = this.#options;
    this.#timer = setTimeout(() => this.#run(), typeof everyMs === "number" ? everyMs : everyMs()).unref();
  }

  #run(): void {
    this.#running = this.#attempt().then(() => this.#wait());
  }

  async #attempt(): Promise<void> {
    try {
      await this.#work(this.#stopped.signal);
    } catch (thrown) {
      this.#options.onError?.(toError(thrown));
    }
  }
}
