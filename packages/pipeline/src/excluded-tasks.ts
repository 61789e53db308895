/** Redis' memory of the tasks that a filter excludes or keeps, for the events that carry neither name nor queue. */
import { sendTogether, type RedisConnection } from "@celery-metrics-exporter/runtime";
import { withRedis } from "./redis-errors.ts";

const DEFAULT_EXPIRY_SECONDS = 7 * 24 * 3_600;
/** After a task's final event only stragglers come. Filtered tasks are often the noisy ones: a week of them would fill Redis. */
const FINISHED_EXPIRY_SECONDS = 3_600;

/** The values of the keys. An id that was kept once is never excluded: both are remembered in any order. */
const EXCLUDED = "";
const KEPT = "+";

/** What is remembered of some ids. */
export interface Remembered {
  readonly excluded: ReadonlySet<string>;
  /** Excluded by one attempt, perhaps, but another one is wanted. */
  readonly kept: ReadonlySet<string>;
}

export interface ExcludedTasksOptions {
  readonly redis: RedisConnection;
  /** With a `{hash tag}` all keys are in one slot of a Redis Cluster, as the one lookup needs. */
  readonly prefix: string;
  /**
   * Who remembers: `receiver`, or the exporter's name. Each has its own memory, because each is done with a task at another time, and
   * forgetting is counted from there.
   */
  readonly owner: string;
  readonly expirySeconds?: number;
}

export class ExcludedTasks {
  readonly #redis: RedisConnection;
  readonly #keyPrefix: string;
  readonly #expirySeconds: number;

  constructor({ redis, prefix, owner, expirySeconds = DEFAULT_EXPIRY_SECONDS }: ExcludedTasksOptions) {
    this.#redis = redis;
    this.#keyPrefix = `${prefix}:excluded:${owner}:`;
    this.#expirySeconds = expirySeconds;
  }

  /**
   * What is remembered of these ids, by one command.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async among(ids: Iterable<string>): Promise<Remembered> {
    const asked = [...ids];
    if (asked.length === 0) return { excluded: new Set(), kept: new Set() };
    const values = await withRedis("looking up excluded tasks", () => this.#redis.mget(asked.map((id) => this.#key(id))));
    return {
      excluded: new Set(asked.filter((_, index) => values[index] === EXCLUDED)),
      kept: new Set(asked.filter((_, index) => values[index] === KEPT)),
    };
  }

  /**
   * Remembers ids as excluded, unless they are kept, for `expirySeconds`; those in `finished`, whose final event has been seen, for an hour.
   *
   * @throws {UnavailableError} when Redis does not serve: some may be stored; call again.
   */
  async remember(ids: Iterable<string>, finished: ReadonlySet<string> = new Set()): Promise<void> {
    await this.#run(
      [...ids].flatMap((id) => {
        const seconds = this.#secondsFor(id, finished);
        return [
          ["set", this.#key(id), EXCLUDED, "EX", seconds, "NX"],
          ["expire", this.#key(id), seconds],
        ];
      }),
    );
  }

  /**
   * Remembers ids as kept, for as long.
   *
   * @throws {UnavailableError} when Redis does not serve: some may be stored; call again.
   */
  async keep(ids: Iterable<string>, finished: ReadonlySet<string> = new Set()): Promise<void> {
    await this.#run([...ids].map((id) => ["set", this.#key(id), KEPT, "EX", this.#secondsFor(id, finished)]));
  }

  async #run(commands: (string | number)[][]): Promise<void> {
    if (commands.length === 0) return;
    await withRedis("remembering excluded tasks", async () => {
      for (const reply of await sendTogether(this.#redis, commands)) if (reply instanceof Error) throw reply;
    });
  }

  #secondsFor(id: string, finished: ReadonlySet<string>): number {
    return finished.has(id) ? Math.min(FINISHED_EXPIRY_SECONDS, this.#expirySeconds) : this.#expirySeconds;
  }

  #key(id: string): string {
    return this.#keyPrefix + id;
  }
}
