/** The dead-letter queue: what could not be decoded or exported, kept for a human to look at. */
import type { Logger, Metrics, RedisConnection } from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";
import { DeadLetterLog } from "./dead-letter-log.ts";
import { shorten } from "./dead-letter-size.ts";
import type { DeadLetter } from "./letter.ts";
import { openQueue, queueIsReady } from "./open-queue.ts";
import { DEAD_LETTER_QUEUE } from "./queue-names.ts";
import { withRedis } from "./redis-errors.ts";

export type { DeadLetter };

export interface DeadLettersOptions {
  /** Stays open after `close`. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** Jobs that wait for no worker; the oldest go when there are more than this. */
export const MAX_DEAD_LETTERS = 10_000;
/** Letters of one command: what they take in this process and in Redis stays small, however many come at once. */
const LETTERS_PER_COMMAND = 500;
/** Trims whatever the clocks of the processes that added say. */
const CLOCK_SKEW_MS = 24 * 3_600_000;

export class DeadLetters {
  readonly #queue: Queue;
  readonly #log: DeadLetterLog;
  readonly #counter;

  constructor({ redis, prefix, logger, metrics }: DeadLettersOptions) {
    this.#queue = openQueue(DEAD_LETTER_QUEUE, { redis, prefix, logger });
    this.#log = new DeadLetterLog(logger);
    this.#counter = metrics.counter("dead_letters_total", "Events and messages put into the dead-letter queue.", ["source", "reason"]);
  }

  /**
   * Resolves when letters can be added.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async start(): Promise<void> {
    await queueIsReady(this.#queue);
  }

  /**
   * Resolves when the letters are stored, or of more than 10,000 the last, and the queue is trimmed.
   *
   * @throws {UnavailableError} when Redis does not serve: keep what they are about, and call again. Some may be stored already.
   */
  async add(letters: readonly DeadLetter[]): Promise<void> {
    if (letters.length === 0) return;
    const kept = letters.slice(-MAX_DEAD_LETTERS);
    for (let from = 0; from < kept.length; from += LETTERS_PER_COMMAND) await this.#store(kept.slice(from, from + LETTERS_PER_COMMAND));
    for (const { source, reason } of letters) this.#counter.inc({ source, reason });
    this.#log.add(letters);
  }

  /** Stops using the queue; what is in it stays. */
  async close(): Promise<void> {
    this.#log.close();
    await this.#queue.close();
  }

  async #store(letters: readonly DeadLetter[]): Promise<void> {
    await withRedis("adding dead letters", async () => {
      await this.#queue.addBulk(letters.map((letter) => ({ name: letter.reason, data: shorten(letter) })));
      await this.#trim();
    });
  }

  async #trim(): Promise<void> {
    const excess = (await this.#queue.getWaitingCount()) - MAX_DEAD_LETTERS;
    if (excess > 0) await this.#queue.clean(-CLOCK_SKEW_MS, excess, "wait");
  }
}
