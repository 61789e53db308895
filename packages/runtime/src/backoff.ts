/** Delays between attempts. */
import { setTimeout as sleep } from "node:timers/promises";

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
