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
  readonly marks: readonly string[];
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
   * changes nothing.
   *
   * @throws {UnavailableError} when Redis does not serve: some may be noted; call again.
   */
  async note(notes: ReadonlyMap<string, Note | undefined>): Promise<Map<string, Remembered>> {
    const known = await this.#run([...notes.keys()], Array.from(notes.values(), written));
    return new Map(Array.from(notes, ([id, note], index) => [id, read(known[index] ?? "", note)]));
  }

  /**
   * Tells everybody for a minute that these tasks are being forgotten, and what is known of them. Those that another is just forgetting are told
   * to be locked.
   *
   * @param holder a name that nobody else has.
   * @throws {UnavailableError} when Redis does not serve.
   */
  async lock(ids: readonly string[], holder: string): Promise<Map<string, Remembered>> {
    const known = await this.#run(
      ids,
      ids.map(() => `l${holder}`),
    );
    return new Map(ids.map((id, index) => [id, read(known[index] ?? "")]));
  }

  /** @throws {UnavailableError} when Redis does not serve: the locks will expire. */
  async unlock(ids: readonly string[], holder: string): Promise<void> {
    await this.#run(
      ids,
      ids.map(() => `u${holder}`),
    );
  }

  async #run(ids: readonly string[], args: readonly string[]): Promise<readonly string[]> {
    if (ids.length === 0) return [];
    const keys = ids.map((id) => this.#keyPrefix + id);
    const command = (): Promise<unknown> => this.#redis.eval(NOTE_ATTEMPTS, keys.length, ...keys, ...this.#limits, ...args);
    return (await withRedis("remembering what filters decided", command)) as string[];
  }
}

function written(note: Note | undefined): string {
  if (note === undefined) return "";
  const { marks, describedAt = 0, finishedAt = 0, aside, keeps } = note;
  const kind = keeps === undefined ? "n" : keeps === "for good" ? "k" : "w";
  const [described, finished] = [milliseconds(describedAt), milliseconds(finishedAt)];
  const isFinished = finished > 0 && finished >= described;
  let text = `${isFinished ? kind.toUpperCase() : kind}${described};${finished};;0;`;
  for (const mark of marks) text += `${mark} `;
  return aside === undefined || aside.length === 0 ? text : `${text}\n${JSON.stringify(aside)}`;
}

function milliseconds(instant: number): number {
  return Math.max(0, Math.round(instant));
}

const NO_EVENTS: readonly CeleryEvent[] = [];
const NOTHING: Remembered = { marks: [], isLocked: false, aside: NO_EVENTS };

function read(answer: string, noted?: Note): Remembered {
  if (answer === "") return noted === undefined ? NOTHING : { marks: noted.marks, isLocked: false, aside: NO_EVENTS };
  const isLocked = answer.startsWith("!");
  const [marks = "", ...aside] = answer.slice(isLocked ? 1 : 0).split("\n");
  return {
    marks: marks.split(" ").filter((mark) => mark !== ""),
    isLocked,
    aside: aside.flatMap((line) => JSON.parse(line) as CeleryEvent[]),
  };
}
