/** Commands of our queues: whatever goes wrong with them is not the fault of the data. */
import { redisUnavailable, toError } from "@celery-metrics-exporter/runtime";
import { LostJobError } from "../contract/errors.ts";

/** BullMQ's codes for a job without its key, without a lock, not among the active ones, and with the lock of another. */
const LOST_JOB_CODES: ReadonlySet<unknown> = new Set([-1, -2, -3, -6]);

/**
 * Runs a command.
 *
 * @throws {LostJobError} when BullMQ says that the job is gone or another's: to call again would never help.
 * @throws {UnavailableError} for any other failure; the caller keeps the data and calls again.
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
