/** The clock against which events are checked: this machine's, or the one of Redis if it is later. */
import { MAX_AHEAD_SECONDS } from "@celery-metrics-exporter/celery";
import { toError, type Logger, type RedisConnection } from "@celery-metrics-exporter/runtime";

/**
 * Asks Redis for its time once. A machine that has just started, before NTP has set its clock, may be years behind; this still gives the right
 * time. Warns if this machine is more than a day behind Redis.
 *
 * @returns Unix time in seconds.
 */
export async function receiverClock(redis: Pick<RedisConnection, "time">, logger: Logger): Promise<() => number> {
  try {
    const [seconds] = await redis.time();
    const offset = Number(seconds) - elapsed();
    const behind = Number(seconds) - own();
    if (behind > MAX_AHEAD_SECONDS) {
      const advice = "set this machine's clock (`timedatectl` shows whether NTP does); if it is right, set the clock of Redis' machine";
      logger.warn(
        { hoursBehind: Math.round(behind / 3_600), advice },
        "the clock of this machine is behind the clock of Redis: using the clock of Redis",
      );
    }
    return () => Math.max(own(), offset + elapsed());
  } catch (thrown) {
    logger.debug({ err: toError(thrown) }, "cannot read the time from Redis");
    return own;
  }
}

function own(): number {
  return Date.now() / 1_000;
}

/** Monotonic, so that it does not jump if this machine's clock is set. */
function elapsed(): number {
  return performance.now() / 1_000;
}
