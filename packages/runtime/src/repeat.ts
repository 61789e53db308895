/** Periodic work. */
import { toError } from "./errors.ts";

export interface RepeatOptions {
  /** From the end of one run to the start of the next. From half a second on, up to a quarter of a second more or less: see `untilBeat`. */
  readonly everyMs: number | (() => number);
  /** When the first run starts. Default: after `everyMs`. */
  readonly first?: "now" | "later";
  /** Called when a run fails. Further runs follow. */
  readonly onError?: (error: Error) => void;
}

/** Runs work periodically, one run at a time, from construction until `stop`. Does not keep the process alive. */
export class Repeat {
  readonly #work: (signal: AbortSignal) => unknown;
  readonly #options: RepeatOptions;
  readonly #stopped = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  /** With `first: "now"`: resolves when the first run ends, even if it fails. */
  readonly firstRun: Promise<void>;

  /** @param work receives a signal that `stop` aborts. */
  constructor(work: (signal: AbortSignal) => unknown, options: RepeatOptions) {
    this.#work = work;
    this.#options = options;
    if (options.first === "now") this.#run();
    else this.#wait();
    this.firstRun = this.#running;
  }

  /** Starts no further run. Resolves when the current one ends. Idempotent. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    clearTimeout(this.#timer);
    await this.#running;
  }

  #wait(): void {
    if (this.#stopped.signal.aborted) return;
    const { everyMs } = this.#options;
    this.#timer = setTimeout(() => this.#run(), untilBeat(typeof everyMs === "number" ? everyMs : everyMs())).unref();
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

const BEAT_MS = 500;

/** About so many milliseconds: until one of the moments that all periodic work of a process shares. Waking up costs more than most of this work. */
function untilBeat(ms: number): number {
  if (ms < BEAT_MS) return ms;
  const now = performance.now();
  return Math.round((now + ms) / BEAT_MS) * BEAT_MS - now;
}
