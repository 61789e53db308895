/** Errors of our queues' commands, which are never the fault of the data, and outages of Redis. */
import { redisUnavailable, toError } from "@celery-metrics-exporter/runtime";
import { LostJobError } from "../contract/errors.ts";

/** BullMQ's codes for a job that has no key, has no lock, is not active, or is locked by another worker. */
const LOST_JOB_CODES: ReadonlySet<unknown> = new Set([-1, -2, -3, -6]);

/**
 * Runs a command.
 *
 * @throws {LostJobError} if BullMQ says that the job is gone or belongs to another worker. Calling again would not help.
 * @throws {UnavailableError} for any other failure. The caller keeps the data and calls again.
 */
export async function withRedis<T>(what: string, command: () => Promise<T>): Promise<T> {
  try {
    return await command();
  } catch (thrown) {
    const error = toError(thrown);
    if (error instanceof LostJobError) throw error;
    if ("code" in error && LOST_JOB_CODES.has(error.code)) throw new LostJobError(what, { cause: error });
    throw redisUnavailable(what, error);
  }
}

// Whether Redis has just come back from an outage, or is still unavailable.

/**
 * How long after an outage other processes may still have to catch up. A process that had done something when Redis became unavailable can
 * note it only once it is connected again; by then, its job may have been given to another process. The same goes for receivers with events
 * in memory. The time covers the reconnections (at most 1 s apart), the next try, and the work that has piled up before it.
 */
const CATCH_UP_MS = 5_000;

/** Follows one connection. The code that opens the connection calls `onLost` and `onConnected`. */
export class RedisReturn {
  #at = Number.NEGATIVE_INFINITY;

  readonly onLost = (): void => {
    this.#at = Number.POSITIVE_INFINITY;
  };

  /** The first connection does not count as a return. */
  readonly onConnected = (): void => {
    if (this.#at === Number.POSITIVE_INFINITY) this.#at = performance.now();
  };

  /**
   * Whether others may still have to note what they did before. Also true during the outage, because a worker's own connection may be back
   * sooner.
   */
  get isRecent(): boolean {
    return performance.now() - this.#at < CATCH_UP_MS;
  }
}
