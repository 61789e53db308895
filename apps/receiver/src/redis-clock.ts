/** The clock of Redis, by which all receivers of a deployment say when they heard something: their own clocks may differ. */
import { type Logger, type RedisConnection, isCluster, toError } from "@celery-metrics-exporter/runtime";

/** An answer that takes longer says too little. */
const SLOW_MS = 1_000;
/** A step of this length is no inaccuracy: the clock was set, or this machine was asleep. */
const STEP_SECONDS = 5;

/** Seconds and microseconds, as the command `TIME` answers. */
export type Time = () => Promise<readonly (number | string)[]>;

/**
 * @param key any key beside the exporter queues. The nodes of a cluster have clocks of their own, and a command without a key asks any of them.
 */
export function timeOf(redis: RedisConnection, key: string): Time {
  if (!isCluster(redis)) return () => redis.time();
  return async () => (await redis.eval("return redis.call('TIME')", 1, key)) as string[];
}

export class RedisClock {
  readonly #time: Time;
  readonly #logger: Logger;
  /** From this process' monotonic clock to Redis' clock, in seconds; undefined if Redis does not tell. */
  #offset: number | undefined;

  constructor(time: Time, logger: Logger) {
    this.#time = time;
    this.#logger = logger;
  }

  /** Seconds since the epoch. This machine's clock while nothing else is known. */
  now(): number {
    return this.#offset === undefined ? Date.now() / 1_000 : this.#offset + performance.now() / 1_000;
  }

  /** Asks Redis again. Never throws. @returns whether the clock made a step, so that what was measured before does not fit what follows. */
  async sync(): Promise<boolean> {
    const askedAt = performance.now();
    try {
      const [seconds, microseconds] = await this.#time();
      const answeredAt = performance.now();
      if (answeredAt - askedAt > SLOW_MS && this.#offset !== undefined) return false;
      const [isFirst, before] = [this.#offset === undefined, this.now()];
      this.#offset = Number(seconds) + Number(microseconds) / 1_000_000 - (askedAt + answeredAt) / 2_000;
      const step = this.now() - before;
      if (Math.abs(step) <= STEP_SECONDS) return false;
      if (!isFirst)
        this.#logger.info({ stepSeconds: Math.round(step) }, "the clock of Redis was set: the silence of workers counts from now on");
      return true;
    } catch (thrown) {
      this.#logger.debug({ err: toError(thrown) }, "cannot read the time from Redis");
      return false;
    }
  }
}
