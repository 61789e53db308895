/** The names of Celery's queues that have been seen, in Redis: workers that are gone do not name their queues any more, but messages still wait in them. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { type RedisConnection, sendTogether, toError } from "@celery-metrics-exporter/runtime";
import { knownQueuesKey } from "../queue/names.ts";
import { withRedis } from "../queue/redis-errors.ts";

export interface KnownQueuesOptions {
  /** A `producer` connection: a command fails at once if Redis is unavailable. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  /** Unix time in seconds. */
  readonly now?: () => number;
}

/** A name that was not seen for this long is forgotten. */
const FORGET_AFTER_SECONDS = 30 * 86_400;
/** Of more names, those seen last are kept. */
const MAX_NAMES = 1_000;
const NOTICE_EVERY_SECONDS = 3_600;
/** AMQP's limit on the bytes of a name. */
const MAX_BYTES = 255;

export class KnownQueues {
  readonly #redis: RedisConnection;
  readonly #key: string;
  readonly #now: () => number;
  /** When each name was last noticed. */
  readonly #noticed = new Map<string, number>();

  constructor({ redis, prefix, now = () => Date.now() / 1_000 }: KnownQueuesOptions) {
    this.#redis = redis;
    this.#key = knownQueuesKey(prefix);
    this.#now = now;
  }

  /**
   * Notes that queues of these names exist now. Whoever learns of a queue may call it: the monitor from the replies of workers, an exporter from
   * `task-sent`. Names that no broker accepts are ignored.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async remember(names: Iterable<string>): Promise<void> {
    const now = Math.floor(this.#now());
    const valid = [...new Set(names)].filter(isName).slice(0, MAX_NAMES);
    if (valid.length === 0) return;
    await this.#send([
      ["zadd", this.#key, ...valid.flatMap((name) => [now, name])],
      ["zremrangebyscore", this.#key, "-inf", now - FORGET_AFTER_SECONDS],
      ["zremrangebyrank", this.#key, 0, -MAX_NAMES - 1],
      ["expire", this.#key, FORGET_AFTER_SECONDS],
    ]);
  }

  /**
   * Remembers the queues to which tasks were sent. Asks Redis only once an hour for each name.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async notice(events: readonly CeleryEvent[]): Promise<void> {
    const now = this.#now();
    const names = new Set<string>();
    for (const event of events) {
      if (event.type !== "task-sent" || !("queue" in event) || event.excluded === true) continue;
      const { queue } = event;
      if (queue !== undefined && now - (this.#noticed.get(queue) ?? 0) > NOTICE_EVERY_SECONDS) names.add(queue);
    }
    if (names.size === 0) return;
    await this.remember(names);
    if (this.#noticed.size > MAX_NAMES) this.#noticed.clear();
    for (const name of names) this.#noticed.set(name, now);
  }

  /**
   * The names seen in the last 30 days, at most 1,000, in alphabetical order.
   *
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async names(): Promise<string[]> {
    const [names] = await this.#send([["zrangebyscore", this.#key, Math.floor(this.#now()) - FORGET_AFTER_SECONDS + 1, "+inf"]]);
    return (names as string[]).toSorted();
  }

  async #send(commands: (string | number)[][]): Promise<unknown[]> {
    return withRedis("remembering the names of queues", async () => {
      const replies = await sendTogether(this.#redis, commands);
      const failed = replies.find((reply) => reply instanceof Error);
      if (failed !== undefined) throw toError(failed);
      return replies;
    });
  }
}

function isName(name: string): boolean {
  return name !== "" && !name.includes("\0") && Buffer.byteLength(name) <= MAX_BYTES;
}
