/** Errors of our queues' commands. They are never the fault of the data. */
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
