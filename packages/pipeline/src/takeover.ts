/** BullMQ's lock settings: how soon another process takes over from one that was killed. */

/**
 * A job's lock is renewed at half its duration; once it has expired, the next look for stalled jobs, which the workers of a queue share, puts
 * the job back. At worst two intervals pass before that look: 8 + 2 × 2.5 = 13 s after the kill (BullMQ's defaults: 60 s). An event loop may be
 * blocked for 4 s before another process runs its batches as well, which only costs time.
 */
export const LOCK_OPTIONS = {
  lockDuration: 8_000,
  stalledInterval: 2_500,
  /** Never: BullMQ would put the job into `failed`. What to do with a job that stalls again and again is decided in `quarantine.ts`. */
  maxStalledCount: 1_000_000_000,
} as const;

/** How long a worker waits after Redis was away, or refused it a job, before it asks again (BullMQ's default: 15 s, and not at all). */
export const REDIS_RETRY_MS = 1_000;
