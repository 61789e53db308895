/** The dead-letter queue: what could not be decoded or exported, kept for a human to look at. */
import type { CeleryEvent, ReadAs, Rejected } from "@celery-metrics-exporter/events";
import type { Logger, Metrics, RedisConnection } from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";
import { shorten } from "./dead-letter-size.ts";
import { openQueue, queueIsReady } from "./open-queue.ts";
import { DEAD_LETTER_QUEUE } from "./queue-names.ts";
import { withRedis } from "./redis-errors.ts";

export interface DeadLetter {
  /** `RECEIVER`, or the exporter's name. */
  readonly source: string;
  /** A short, stable word: the job's name, and a label of `dead_letters_total`. */
  readonly reason: string;
  readonly detail: string;
  readonly event?: CeleryEvent;
  /** What was received, where it is no event; or the id of a task. */
  readonly raw?: string;
  /** What `raw` is, for a replay. Absent where it is only a part. */
  readonly readAs?: ReadAs | "id to process" | "id to forget";
  /** A job's payload that could not be read: kept whole, so that a newer release can be given it. */
  readonly payload?: unknown;
  /** Set where a long text was cut in here, so that a replay would store less than was sent. */
  readonly cut?: boolean;
}

export interface DeadLettersOptions {
  /** Stays open after `close`. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** The source of what could not be decoded. */
export const RECEIVER = "receiver";

/** In place of text that redaction hides; a letter's `raw` where redaction keeps nothing of the input. */
export const REDACTED = "[redacted]";

/** What the decoder rejected, as a letter. */
export function letterOf({ reason, detail, raw, readAs, count }: Rejected): DeadLetter {
  const told = count > 1 ? `${detail} (${count} alike)` : detail;
  return { source: RECEIVER, reason, detail: told, raw, ...(readAs !== undefined && { readAs }) };
}

/** Jobs that wait for no worker; the oldest go when there are more than this. */
export const MAX_DEAD_LETTERS = 10_000;
/** Letters of one command: what they take in this process and in Redis stays small, however many come at once. */
const LETTERS_PER_COMMAND = 500;
/** Bad events come in crowds; one line tells of all since the last. */
const LOG_INTERVAL_MS = 30_000;
/** Trims whatever the clocks of the processes that added say. */
const CLOCK_SKEW_MS = 24 * 3_600_000;

export class DeadLetters {
  readonly #queue: Queue;
  readonly #logger: Logger;
  readonly #counter;
  #unlogged = 0;
  #loggedAt = 0;

  constructor({ redis, prefix, logger, metrics }: DeadLettersOptions) {
    this.#queue = openQueue(DEAD_LETTER_QUEUE, { redis, prefix, logger });
    this.#logger = logger;
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
    this.#log(letters);
  }

  /** Stops using the queue; what is in it stays. */
  async close(): Promise<void> {
    await this.#queue.close();
  }

  async #store(letters: readonly DeadLetter[]): Promise<void> {
    await withRedis("adding dead letters", async () => {
      await this.#queue.addBulk(letters.map((letter) => ({ name: letter.reason, data: shorten(letter) })));
      await this.#trim();
    });
  }

  #log(letters: readonly DeadLetter[]): void {
    this.#unlogged += letters.length;
    if (Date.now() - this.#loggedAt < LOG_INTERVAL_MS) return;
    this.#logger.warn({ count: this.#unlogged, source: letters[0]?.source, reason: letters[0]?.reason }, "put into the dead-letter queue");
    this.#loggedAt = Date.now();
    this.#unlogged = 0;
  }

  async #trim(): Promise<void> {
    const excess = (await this.#queue.getWaitingCount()) - MAX_DEAD_LETTERS;
    if (excess > 0) await this.#queue.clean(-CLOCK_SKEW_MS, excess, "wait");
  }
}
