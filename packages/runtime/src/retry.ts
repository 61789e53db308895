/** Trying again what fails. */
import { type BackoffOptions, backoffMs, pause } from "./backoff.ts";
import { toError } from "./errors.ts";

export interface RetryOptions<F> extends BackoffOptions {
  /** Ends a wait between two tries early; what comes of that is for `decide` to say. */
  readonly signal?: AbortSignal | undefined;
  /**
   * What a failed try comes to: undefined to try again, anything else to end with that. May throw instead.
   *
   * @param tries how many have failed, this one included.
   */
  readonly decide: (error: Error, tries: number) => F | undefined;
}

/** Resolves with what the task resolves with, or with what `decide` ends it with. Waits between two tries as `backoffMs` says. */
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
