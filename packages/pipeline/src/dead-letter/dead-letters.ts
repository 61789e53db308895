/** The dead-letter queue: what could not be decoded or exported, kept for inspection. */
import type { Logger, Metrics, RedisConnection } from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";
import { type DeadLetter, EXPORTER_REASONS, FUTURE, RECEIVER, RECEIVER_REASONS, cut, shorten } from "./letter.ts";
import { openQueue, queueIsReady } from "../queue/bullmq.ts";
import { DEAD_LETTER_QUEUE } from "../queue/names.ts";
import { withRedis } from "../queue/redis-errors.ts";

export type { DeadLetter };

export interface DeadLettersOptions {
  /** Stays open after `close`. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Who adds letters: `RECEIVER` or an exporter. Undefined for a replay, which only puts back what others added. */
  readonly source: string | undefined;
}

/** Size of the queue, which no worker empties. Beyond it, the oldest letters are removed. */
export const MAX_DEAD_LETTERS = 10_000;
/** Letters added by one command. It bounds the memory used in this process and in Redis, however many letters come at once. */
const LETTERS_PER_COMMAND = 500;
/** Margin of the trimming, so that it also removes letters added by processes whose clocks are ahead. */
const CLOCK_SKEW_MS = 24 * 3_600_000;

export class DeadLetters {
  readonly #queue: Queue;
  readonly #log: DeadLetterLog;
  readonly #counter;

  constructor({ redis, prefix, logger, metrics, source }: DeadLettersOptions) {
    this.#queue = openQueue(DEAD_LETTER_QUEUE, { redis, prefix, logger });
    this.#log = new DeadLetterLog(logger);
    this.#counter = metrics.counter("dead_letters_total", "Events and messages put into the dead-letter queue.", {
      source: source === undefined ? [] : [source],
      reason: source === RECEIVER ? RECEIVER_REASONS : EXPORTER_REASONS,
    });
  }

  /**
   * Resolves when letters can be added.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async start(): Promise<void> {
    await queueIsReady(this.#queue);
  }

  /**
   * Resolves when the letters (if more than 10,000, the last of them) are stored and the queue is trimmed.
   *
   * @throws {UnavailableError} if Redis is unavailable: keep the data, and call again. Some letters may be stored already.
   */
  async add(letters: readonly DeadLetter[]): Promise<void> {
    if (letters.length === 0) return;
    const kept = letters.slice(-MAX_DEAD_LETTERS);
    for (let from = 0; from < kept.length; from += LETTERS_PER_COMMAND) await this.#store(kept.slice(from, from + LETTERS_PER_COMMAND));
    for (const { source, reason } of letters) this.#counter.inc({ source, reason });
    this.#log.add(letters);
  }

  /** Stops using the queue. Its letters stay. */
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

// Logs dead letters by source and reason: how many, an example, and what to do.

/** Time between two lines for the same source and reason, because bad events come in bursts. */
const INTERVAL_MS = 30_000;
const MAX_LOGGED_CHARACTERS = 500;

interface Group {
  /** Letters since the last line. */
  count: number;
  /** From the first of these letters. */
  example: Pick<DeadLetter, "source" | "reason" | "detail">;
  timer: NodeJS.Timeout | undefined;
}

export class DeadLetterLog {
  readonly #logger: Logger;
  readonly #intervalMs: number;
  /** By source and reason. This code chooses both, so there are few. */
  readonly #groups = new Map<string, Group>();

  constructor(logger: Logger, intervalMs = INTERVAL_MS) {
    this.#logger = logger;
    this.#intervalMs = intervalMs;
  }

  add(letters: readonly DeadLetter[]): void {
    for (const { source, reason, detail } of letters) {
      const key = JSON.stringify([source, reason]);
      const example = { source, reason, detail };
      const group = this.#groups.get(key) ?? { count: 0, example, timer: undefined };
      this.#groups.set(key, group);
      if (group.count === 0) group.example = { ...example, detail: cut(detail, MAX_LOGGED_CHARACTERS) };
      group.count += 1;
    }
    for (const group of this.#groups.values()) if (group.timer === undefined) this.#write(group);
  }

  /** Logs what has not been logged yet. */
  close(): void {
    for (const group of this.#groups.values()) {
      clearTimeout(group.timer);
      group.timer = undefined;
      this.#write(group);
      clearTimeout(group.timer);
    }
  }

  #write(group: Group): void {
    group.timer = undefined;
    if (group.count === 0) return;
    const { source, reason, detail } = group.example;
    const fields = { source, reason, count: group.count, detail, advice: adviceFor(group.example) };
    this.#logger.warn(fields, "put into the dead-letter queue");
    group.count = 0;
    group.timer = setTimeout(() => this.#write(group), this.#intervalMs).unref();
  }
}

// What to do about dead letters, in one sentence per source and reason.

const JSON_EVENTS = 'set event_serializer = "json" in Celery';
const FOREIGN = "find out what else publishes to the event exchange; Celery itself sends no such messages";

/** Advice for the receiver's reasons. Those not listed have the default. */
const OF_RECEIVER: Readonly<Record<string, string>> = {
  pickle: JSON_EVENTS,
  content_type: JSON_EVENTS,
  content_encoding: JSON_EVENTS,
  envelope: FOREIGN,
  not_an_event: FOREIGN,
  type: FOREIGN,
  timestamp: `check the clock of the sender; otherwise ${FOREIGN}`,
  [FUTURE]: `correct the sender's clock (run NTP); if the receiver's clock was wrong instead, correct that one and run \`celery-metrics-exporter replay --source ${RECEIVER} --reason ${FUTURE}\``,
  too_large: "send less in one event, or fewer events in one message",
};
const DEFAULT_OF_RECEIVER =
  "look at the letters in the dashboard; after an upgrade that can read them, run `celery-metrics-exporter replay`";

/** Advice for the exporters' reasons. */
const OF_EXPORTER: Readonly<Record<string, string>> = {
  refused: "correct what the detail says",
  failed: "look for the error in the processor's log, and report it if the exporter is at fault",
  crash: "find out how the process died: what it logged last, and whether it ran out of memory",
  payload:
    "find out what put this job into the exporter's queue: an older release, or software other than the receiver; if a release can read it, run that one",
};
const DEFAULT_OF_EXPORTER = "look at the letters in the dashboard";

/** How to prevent such letters, and what to do with the existing ones. */
function adviceFor({ source, reason }: Pick<DeadLetter, "source" | "reason">): string {
  if (source === RECEIVER) return OF_RECEIVER[reason] ?? DEFAULT_OF_RECEIVER;
  return `${OF_EXPORTER[reason] ?? DEFAULT_OF_EXPORTER}, then run \`celery-metrics-exporter replay --source ${source} --reason ${reason}\``;
}
