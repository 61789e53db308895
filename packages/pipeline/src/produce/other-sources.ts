/**
 * Detects, through a key in Redis, that receivers of different brokers feed the same queues. In most cases, two environments share a Redis
 * by mistake.
 */
import { type Logger, type RedisConnection, Repeat } from "@celery-metrics-exporter/runtime";

export interface OtherSourcesOptions {
  /** A `producer` connection; stays open. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  /** What this receiver reads from, without credentials: the same text in every receiver of the same source. */
  readonly source: string;
  readonly logger: Logger;
  readonly intervalMs?: number;
}

const INTERVAL_MS = 10_000;
const EXPIRY_SECONDS = 60;
/** Checks in a row that must find another source. If a receiver is replaced by one with a corrected setting, both overlap for less. */
const LOOKS = 3;
/** Sources that are remembered as reported. */
const MAX_REPORTED = 10;

/** Every receiver writes its source into one key. Before that, it checks whether another receiver has written another source since. */
export class OtherSources {
  readonly #options: OtherSourcesOptions;
  readonly #key: string;
  readonly #reported = new Set<string>();
  #hasWritten = false;
  #looks = 0;
  #repeat: Repeat | undefined;

  constructor(options: OtherSourcesOptions) {
    this.#options = options;
    this.#key = `${options.prefix}:receiver:source`;
  }

  /** Checks now, and then every ten seconds. Never throws: an outage of Redis is reported elsewhere. */
  async start(): Promise<void> {
    const { intervalMs = INTERVAL_MS } = this.#options;
    const onError = (err: Error): void => {
      this.#options.logger.debug({ err }, "other sources unknown");
      // ACL rules written for an earlier release do not include the key.
      if (err.message.startsWith("NOPERM")) this.close();
    };
    this.#repeat = new Repeat(() => this.#look(), { everyMs: intervalMs, first: "now", onError });
    await this.#repeat.firstRun;
  }

  close(): void {
    void this.#repeat?.stop();
  }

  async #look(): Promise<void> {
    const { redis, source } = this.#options;
    const written = await redis.get(this.#key);
    await redis.set(this.#key, source, "EX", EXPIRY_SECONDS);
    const other = this.#hasWritten && written !== null && written !== source ? written : undefined;
    this.#hasWritten = true;
    if (other === undefined) this.#looks = Math.max(0, this.#looks - 1);
    else if (++this.#looks >= LOOKS) this.#report(other);
  }

  #report(other: string): void {
    const { prefix, source, logger } = this.#options;
    if (this.#reported.has(other) || this.#reported.size >= MAX_REPORTED) return;
    this.#reported.add(other);
    logger.warn(
      {
        source,
        otherSource: other,
        queuePrefix: prefix,
        advice:
          "two environments on one Redis need a QUEUE_PREFIX each, or a database each; receivers of one broker should name it by the same CELERY_BROKER_URL",
      },
      "a receiver of another broker feeds the same queues",
    );
  }
}
