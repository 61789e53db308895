/** Redis' memory of what is known of the attempts of tasks, for the events that carry neither name nor queue. */
import type { CeleryEvent } from "@celery-metrics-exporter/events";
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { NOTE_ATTEMPTS } from "./attempt-memory-script.ts";
import { withRedis } from "./redis-errors.ts";

const DEFAULT_EXPIRY_SECONDS = 7 * 24 * 3_600;
/** After a task's final event only stragglers come. Filtered tasks are often the noisy ones: a week of them would fill Redis. */
const FINISHED_EXPIRY_SECONDS = 600;
/** The same, with what was set aside of a task of which no name or queue has come: some clients never send any. */
export const DOUBTFUL_EXPIRY_SECONDS = 120;
/** Longer than a forgetting may take. */
const LOCK_MS = 60_000;

/** What to remember of one task. */
export interface Note {
  readonly marks: Iterable<string>;
  /** When the latest attempt among these was described, in ms since the epoch; 0: none was. */
  readonly describedAt?: number;
  /** When the latest of these ends was, likewise. */
  readonly finishedAt?: number;
  /** Events to be set aside, in case another attempt keeps the task. */
  readonly aside?: readonly CeleryEvent[];
  /**
   * What these marks do to what was set aside: they ask for it, if the task was excluded before. `for good`: otherwise it is not needed
   * any more.
   */
  readonly keeps?: "for now" | "for good";
}

/** What is remembered of one task, with what was just noted. */
export interface Remembered {
  readonly marks: readonly string[];
  /** Whether somebody is just forgetting the task. */
  readonly isLocked: boolean;
  /** What was set aside, if it was asked for. */
  readonly aside: readonly CeleryEvent[];
}

export interface AttemptMemoryOptions {
  readonly redis: RedisConnection;
  /** With a `{hash tag}` all keys are in one slot of a Redis Cluster, as the script needs. */
  readonly prefix: string;
  /**
   * Who remembers: `receiver`, or the exporter's name. Each has its own memory, because each is done with a task at another time, and
   * forgetting is counted from there.
   */
  readonly owner: string;
  readonly expirySeconds?: number;
}

export class AttemptMemory {
  readonly #redis: RedisConnection;
  readonly #keyPrefix: string;
  readonly #limits: readonly number[];

  constructor({ redis, prefix, owner, expirySeconds = DEFAULT_EXPIRY_SECONDS }: AttemptMemoryOptions) {
    this.#redis = redis;
    this.#keyPrefix = `${prefix}:excluded:${owner}:`;
    const atMost = (seconds: number): number => Math.min(seconds, expirySeconds);
    this.#limits = [expirySeconds, atMost(FINISHED_EXPIRY_SECONDS), atMost(DOUBTFUL_EXPIRY_SECONDS), LOCK_MS];
  }

  /**
   * Notes what there is to note of these tasks (undefined: nothing) and tells what is known of them, in one round trip. Noting something again
   * changes nothing, but that it is set aside twice.
   *
   * @throws {UnavailableError} when Redis does not serve: some may be noted; call again.
   */
  async note(notes: ReadonlyMap<string, Note | undefined>): Promise<Map<string, Remembered>> {
    return this.#run([...notes.keys()], [...notes.values()].map(written));
  }

  /**
   * Tells everybody for a minute that these tasks are being forgotten, and what is known of them. Those that another is just forgetting are told
   * to be locked.
   *
   * @param holder a name that nobody else has.
   * @throws {UnavailableError} when Redis does not serve.
   */
  async lock(ids: readonly string[], holder: string): Promise<Map<string, Remembered>> {
    return this.#run(
      ids,
      ids.map(() => `l${holder}`),
    );
  }

  /** @throws {UnavailableError} when Redis does not serve: the locks will expire. */
  async unlock(ids: readonly string[], holder: string): Promise<void> {
    await this.#run(
      ids,
      ids.map(() => `u${holder}`),
    );
  }

  async #run(ids: readonly string[], args: readonly string[]): Promise<Map<string, Remembered>> {
    if (ids.length === 0) return new Map();
    const keys = ids.map((id) => this.#keyPrefix + id);
    const answers = await withRedis("remembering what filters decided", () =>
      this.#redis.eval(NOTE_ATTEMPTS, keys.length, ...keys, ...this.#limits, ...args),
    );
    return new Map(ids.map((id, index) => [id, read((answers as string[])[index] ?? "")]));
  }
}

function written(note: Note | undefined): string {
  if (note === undefined) return "";
  const { marks, describedAt = 0, finishedAt = 0, aside = [], keeps } = note;
  const kind = keeps === undefined ? "n" : keeps === "for good" ? "k" : "w";
  const head = `${kind}${Math.max(0, Math.round(describedAt))};${Math.max(0, Math.round(finishedAt))};${[...marks].join(" ")}`;
  return aside.length === 0 ? head : `${head}\n${JSON.stringify(aside)}`;
}

const NOTHING: Remembered = { marks: [], isLocked: false, aside: [] };

function read(answer: string): Remembered {
  if (answer === "") return NOTHING;
  const isLocked = answer.startsWith("!");
  const [marks = "", ...aside] = answer.slice(isLocked ? 1 : 0).split("\n");
  return {
    marks: marks.split(" ").filter((mark) => mark !== ""),
    isLocked,
    aside: aside.flatMap((line) => JSON.parse(line) as CeleryEvent[]),
  };
}
