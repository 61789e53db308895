/** What an error of a Redis command means to whoever holds the data. */
import { UnavailableError, redisProblem, redisReply, toError } from "@celery-metrics-exporter/runtime";

/** Whether Redis refused a write because it is at `maxmemory`. */
export function isOutOfMemory(error: Error): boolean {
  return redisReply(error).startsWith("OOM ");
}

/**
 * Runs a command. Whatever goes wrong with it (no connection, out of memory, loading, failing over) is not the fault of the data.
 *
 * @throws {UnavailableError} for any failure; the caller keeps the data and calls again.
 */
export async function withRedis<T>(what: string, command: () => Promise<T>): Promise<T> {
  try {
    return await command();
  } catch (thrown) {
    const error = toError(thrown);
    throw new UnavailableError(`Redis: ${what} failed (${redisProblem(error)})`, { cause: error });
  }
}
