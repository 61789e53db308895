/** Retries, and waits that can be ended early. */
import { toError } from "./errors.ts";
import { setTimeout as sleep } from "node:timers/promises";

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

// Delays between attempts.

export interface BackoffOptions {
  readonly firstMs?: number;
  readonly maxMs?: number;
}

/** The delay before a retry (`attempt` 0 is the first): doubles up to `maxMs`, with the upper half random. */
export function backoffMs(attempt: number, { firstMs = 200, maxMs = 10_000 }: BackoffOptions = {}): number {
  const full = Math.min(maxMs, firstMs * 2 ** Math.min(attempt, 30));
  return full / 2 + Math.random() * (full / 2);
}

/** Sleeps. An abort ends it early, without an error. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    if (signal?.aborted !== true) throw error;
  }
}

// Abortable waits.

/** Settles like the promise, or rejects with the signal's reason if the abort comes first. Does not cancel the underlying work. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const ended = new AbortController();
  const aborted = new Promise<never>((_resolve, reject) => {
    const abort = (): void => reject(signal.reason as Error);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true, signal: ended.signal });
  });
  try {
    return await Promise.race([aborted, promise]);
  } finally {
    ended.abort();
  }
}
