/** The clock of Redis, by which all receivers of a deployment say when they heard something: their own clocks may differ. */
import { type Logger, type RedisConnection, toError } from "@celery-metrics-exporter/runtime";

/** An answer that takes longer says too little. */
const SLOW_MS = 1_000;
/** A step of this length is no inaccuracy: the clock was set, or this machine was asleep. */
const STEP_SECONDS = 5;

export class RedisClock {
  readonly #redis: Pick<RedisConnection, "time">;
  readonly #logger: Logger;
  /** From this process' monotonic clock to Redis' clock, in seconds; undefined if Redis does not tell. */
  #offset: number | undefined;

  constructor(redis: Pick<RedisConnection, "time">, logger: Logger) {
    this.#redis = redis;
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
      const [seconds, microseconds] = await this.#redis.time();
      const answeredAt = performance.now();
      if (answeredAt - askedAt > SLOW_MS && this.#offset !== undefined) return false;
      const before = this.now();
      this.#offset = Number(seconds) + Number(microseconds) / 1_000_000 - (askedAt + answeredAt) / 2_000;
      return Math.abs(this.now() - before) > STEP_SECONDS;
    } catch (thrown) {
      this.#logger.debug({ err: toError(thrown) }, "cannot read the time from Redis");
      return false;
    }
  }
}
