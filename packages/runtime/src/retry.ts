/** Retries. */
import { type BackoffOptions, backoffMs, pause } from "./backoff.ts";
import { toError } from "./errors.ts";

export interface RetryOptions<F> extends BackoffOptions {
  /** Ends a delay between two attempts early. The next attempt still runs; `decide` decides what follows. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Decides about a failed attempt: undefined retries, any other value ends the retries with that value. May also throw.
   *
   * @param tries the number of failed attempts, including this one.
   */
  readonly decide: (error: Error, tries: number) => F | undefined;
}

/** Runs the task until it succeeds or `decide` ends the retries. Resolves with the result of either. `backoffMs` gives the delays. */
export async function retry<T, F = never>(task: () => Promise<T>, { signal, decide, ...backoff }: RetryOptions<F>): Promise<T | F> {
  for (let tries = 1; ; tries++) {
    try {
      return await task();
    } catch (thrown) {
      const end = decide(toError(thrown), tries);
      if (end !== undefined) return end;
    }
    await pause(backoffMs(tries - 1, backoff), signal);
  }
}
