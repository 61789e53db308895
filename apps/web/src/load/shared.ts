/** Limits the work that many clients cause. */
import { refusal } from "@celery-metrics-exporter/access";

const MAX_KEPT = 500;

/** Answers equal questions with one answer, which it keeps for a while. Failures are not kept. */
export class Shared {
  readonly #keepMs: number;
  readonly #answers = new Map<string, { readonly answer: Promise<unknown>; until: number }>();

  constructor(keepMs: number) {
    this.#keepMs = keepMs;
  }

  /** @param question names everything that the answer depends on, including what the user may see. */
  get<T>(question: unknown, ask: () => Promise<T>): Promise<T> {
    const key = JSON.stringify(question);
    const known = this.#answers.get(key);
    if (known !== undefined && known.until > performance.now()) return known.answer as Promise<T>;
    const entry = { answer: ask(), until: Number.POSITIVE_INFINITY };
    this.#answers.delete(key);
    this.#answers.set(key, entry);
    entry.answer.then(
      () => (entry.until = performance.now() + this.#keepMs),
      () => this.#answers.get(key) === entry && this.#answers.delete(key),
    );
    const [oldest] = this.#answers;
    if (this.#answers.size > MAX_KEPT && oldest !== undefined) this.#answers.delete(oldest[0]);
    return entry.answer;
  }
}

/** A number of places for work that is slow. Nobody waits for one: the client asks again. */
export class Places {
  #free: number;
  readonly #what: string;

  /** @param what is limited, for the message: "searches". */
  constructor(count: number, what: string) {
    this.#free = count;
    this.#what = what;
  }

  /**
   * Takes a place.
   *
   * @returns a function that gives it back; calling it twice does no harm.
   * @throws {Error} with the status 503 if none is free.
   */
  take(): () => void {
    if (this.#free === 0) {
      throw Object.assign(refusal(503, `Too many ${this.#what} at the same time. Try again in a second.`), { retryAfterSeconds: 1 });
    }
    this.#free--;
    let isTaken = true;
    return () => {
      if (isTaken) this.#free++;
      isTaken = false;
    };
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    const giveBack = this.take();
    try {
      return await work();
    } finally {
      giveBack();
    }
  }
}
