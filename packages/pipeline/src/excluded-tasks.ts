/** Redis' memory of the tasks that a filter excludes, for the events that tell neither name nor queue. */
import { sendTogether, type RedisConnection } from "@celery-metrics-exporter/runtime";
import { withRedis } from "./redis-errors.ts";

const DEFAULT_EXPIRY_SECONDS = 7 * 24 * 3_600;
/** After a task's final event only stragglers come. Filtered tasks are often the noisy ones: a week of them would fill Redis. */
const FINISHED_EXPIRY_SECONDS = 3_600;

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
   * The ids among these that are remembered, by one command.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async among(ids: Iterable<string>): Promise<Set<string>> {
    const asked = [...ids];
    if (asked.length === 0) return new Set();
    const values = await withRedis("looking up excluded tasks", () => this.#redis.mget(asked.map((id) => this.#key(id))));
    return new Set(asked.filter((_, index) => values[index] != null));
  }

  /**
   * Remembers ids, for `expirySeconds`; for those in `finished`, whose final event has been seen, an hour.
   *
   * @throws {UnavailableError} when Redis does not serve: some may be stored; call again.
   */
  async remember(ids: Iterable<string>, finished: ReadonlySet<string> = new Set()): Promise<void> {
    const finishedSeconds = Math.min(FINISHED_EXPIRY_SECONDS, this.#expirySeconds);
    const commands = [...ids].map((id) => ["set", this.#key(id), "", "EX", finished.has(id) ? finishedSeconds : this.#expirySeconds]);
    if (commands.length === 0) return;
    await withRedis("remembering excluded tasks", async () => {
      for (const reply of await sendTogether(this.#redis, commands)) if (reply instanceof Error) throw reply;
    });
  }

  #key(id: string): string {
    return this.#keyPrefix + id;
  }
}
