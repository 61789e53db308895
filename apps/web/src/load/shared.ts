/** Limits the work that many clients cause. */
import { refusal } from "@celery-metrics-exporter/access";

const MAX_KEPT = 500;

/** Answers equal questions with one answer, which it keeps for a while. Failures are not kept. */
export class Shared {
  readonly #keepMs: number;
  readonly #answers = new Map<string, Promise<unknown>>();

  constructor(keepMs: number) {
    this.#keepMs = keepMs;
  }

  /** @param question names everything that the answer depends on, including what the user may see. */
  get<T>(question: unknown, ask: () => Promise<T>): Promise<T> {
    const key = JSON.stringify(question);
    const known = this.#answers.get(key);
    if (known !== undefined) return known as Promise<T>;
    const answer = ask();
    this.#answers.set(key, answer);
    const forget = (): void => {
      if (this.#answers.get(key) === answer) this.#answers.delete(key);
    };
    // An old answer that nobody asks for again must not stay: it can be megabytes.
    answer.then(() => setTimeout(forget, this.#keepMs).unref(), forget);
    const [oldest] = this.#answers.keys();
    if (this.#answers.size > MAX_KEPT && oldest !== undefined) this.#answers.delete(oldest);
    return answer;
  }
}

/** How long a request waits for a place before it is refused. */
const WAIT_MS = 1_000;
const MAX_WAITING = 50;

/** A number of places for work that is slow. Requests wait for one in the order in which they came, but not for long. */
export class Places {
  #free: number;
  readonly #what: string;
  readonly #waitMs: number;
  readonly #waiting = new Set<() => void>();

  /** @param what is limited, for the message: "searches". */
  constructor(count: number, what: string, waitMs = WAIT_MS) {
    this.#free = count;
    this.#what = what;
    this.#waitMs = waitMs;
  }

  /**
   * Takes a place.
   *
   * @returns a function that gives it back; calling it twice does no harm.
   * @throws {Error} with the status 503 if none becomes free within the time, or if too many wait already.
   */
  async take(): Promise<() => void> {
    if (this.#free > 0) this.#free--;
    else await this.#turn();
    let isTaken = true;
    return () => {
      if (!isTaken) return;
      isTaken = false;
      const [next] = this.#waiting;
      // The place goes to the one that waits, so nobody can come between.
      if (next === undefined) this.#free++;
      else next();
    };
  }

  #turn(): Promise<void> {
    if (this.#waiting.size >= MAX_WAITING) throw this.#refusal();
    return new Promise((resolve, reject) => {
      const begin = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(begin);
        resolve();
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(begin);
        reject(this.#refusal());
      }, this.#waitMs);
      this.#waiting.add(begin);
    });
  }

  #refusal(): Error {
    return Object.assign(refusal(503, `Too many ${this.#what} at the same time. Try again in a second.`), { retryAfterSeconds: 1 });
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    const giveBack = await this.take();
    try {
      return await work();
    } finally {
      giveBack();
    }
  }
}
