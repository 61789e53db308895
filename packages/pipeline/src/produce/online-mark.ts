/** A mark in Redis that a worker has come online, so that the monitor asks the workers soon. */
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { onlineMarkKey } from "../queue/names.ts";
import { withRedis } from "../queue/redis-errors.ts";

export interface OnlineMarkOptions {
  /** A `producer` connection: a command fails at once if Redis is unavailable. */
  readonly redis: RedisConnection;
  readonly prefix: string;
}

/** Without a monitor, nobody takes it. With one, it waits for seconds at most. */
const EXPIRY_SECONDS = 60;
const LEAVE_EVERY_MS = 1_000;

export class OnlineMark {
  readonly #redis: RedisConnection;
  readonly #key: string;
  #leftAt = Number.NEGATIVE_INFINITY;

  constructor({ redis, prefix }: OnlineMarkOptions) {
    this.#redis = redis;
    this.#key = onlineMarkKey(prefix);
  }

  /** Asks Redis only once a second. A mark that cannot be left does no harm, so this never throws. */
  leave(): void {
    const now = performance.now();
    if (now - this.#leftAt < LEAVE_EVERY_MS) return;
    this.#leftAt = now;
    this.#redis.set(this.#key, "1", "EX", EXPIRY_SECONDS).catch(() => {});
  }

  /**
   * Whether there was a mark. It is gone afterwards.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async take(): Promise<boolean> {
    return withRedis("looking for new workers", async () => (await this.#redis.del(this.#key)) === 1);
  }
}
