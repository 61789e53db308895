/** Puts dead letters back into the queues they came from, once their cause is fixed. */
import { isFuture } from "@celery-metrics-exporter/celery";
import { type Logger, type RedisConnection, toError } from "@celery-metrics-exporter/runtime";
import type { Job, Queue } from "bullmq";
import { UNWANTED } from "../filter/attempt-memory.ts";
import { type BatchFilter, type MarkedTask, admitAll } from "../filter/batch-filter.ts";
import { type EventBatch, encodeBatch } from "../queue/batch.ts";
import { type DeadLetter, type StoredLetter, cut, letterOf, lettersOfFuture } from "./letter.ts";
import type { DeadLetters } from "./dead-letters.ts";
import type { Fanout } from "../produce/fanout.ts";
import { encodeIds } from "../queue/scheduled-ids.ts";
import { DEAD_LETTER_QUEUE, JOB_NAMES, eventsQueueName, processingQueueName } from "../queue/names.ts";
import { openQueue } from "../queue/bullmq.ts";
import { withRedis } from "../queue/redis-errors.ts";
import { type LeftBecause, type ReplayRedaction, type Replayed, redacted, replayed } from "./replayed-letter.ts";

export interface DeadLetterReplayOptions {
  /** A `producer` connection; stays open. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly logger: Logger;
  /** Names of the exporters of `fanout`. Letters of other exporters are left. */
  readonly exporters: readonly string[];
  /** The receiver's filter. Events that were not decoded before pass through it into every exporter's queue. */
  readonly filter: BatchFilter | undefined;
  readonly fanout: Pick<Fanout, "enqueue">;
  readonly deadLetters: Pick<DeadLetters, "add">;
  /** Applied to everything before it is stored again, because letters may be older than the setting. Undefined if nothing is hidden. */
  readonly redaction?: ReplayRedaction | undefined;
}

/** Which letters to replay. A letter must match every field that is given. */
export interface Selection {
  readonly source?: string | undefined;
  readonly reason?: string | undefined;
  /** The maximum number of letters. */
  readonly limit?: number | undefined;
  /**
   * Which letters to remove without replaying them. `unreplayable`: those that cannot be replayed, which otherwise stay. `all`: every
   * selected letter, so nothing is replayed. Undefined: none.
   */
  readonly discard?: "unreplayable" | "all" | undefined;
  /** Changes nothing. */
  readonly dryRun?: boolean;
}

/** The outcome of one letter. */
export interface ReplayedLetter {
  readonly source: string;
  readonly reason: string;
  readonly outcome: "replayed" | "left" | "discarded";
  /** Why it could not be replayed; undefined if it could. */
  readonly because?: LeftBecause;
}

interface FoundLetter {
  readonly id: string;
  readonly source: string;
  readonly reason: string;
  readonly replay: Replayed;
  readonly outcome: ReplayedLetter["outcome"];
}

/** Letters that are read, enqueued and removed together. */
const LETTERS_PER_ROUND = 100;
/** Characters shown of a reason. Known reasons are short words. */
const MAX_SHOWN = 64;
/** The broker of the new batches, because letters do not contain it. */
const BROKER = "dead-letter";

export class DeadLetterReplay {
  readonly #options: DeadLetterReplayOptions;
  readonly #queues = new Map<string, Queue>();

  constructor(options: DeadLetterReplayOptions) {
    this.#options = options;
    // Opened now: a queue that is opened while Redis is unavailable waits for it, but an open queue fails at once.
    this.#queue(DEAD_LETTER_QUEUE);
  }

  /**
   * Replays letters, the oldest first, and yields each group that is done. A letter is removed once its contents are in their queue. If the
   * process is killed in between, the letter is replayed twice, which exporters tolerate. Letters that arrive meanwhile, such as one that
   * fails again, are left for the next run.
   *
   * @throws {UnavailableError} if Redis is unavailable. The letters yielded before are done.
   */
  async *run(selection: Selection): AsyncGenerator<readonly ReplayedLetter[]> {
    const ids = await withRedis("reading dead letters", () => this.#queue(DEAD_LETTER_QUEUE).getRanges(["wait"], 0, -1, true));
    let wanted = selection.limit ?? Number.POSITIVE_INFINITY;
    for (let from = 0; from < ids.length && wanted > 0; from += LETTERS_PER_ROUND) {
      const found = await this.#read(ids.slice(from, from + LETTERS_PER_ROUND), selection);
      const letters = found.slice(0, wanted);
      wanted -= letters.length;
      if (selection.dryRun !== true) {
        await this.#replay(letters.filter(({ outcome }) => outcome === "replayed"));
        await this.#remove(letters.filter(({ outcome }) => outcome === "discarded"));
      }
      yield letters.map(({ source, reason, replay, outcome }) => ({
        source,
        reason,
        outcome,
        ...(replay.to === "nobody" && { because: replay.because }),
      }));
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
  }

  /** Reads these letters and returns the selected ones. */
  async #read(ids: readonly string[], selection: Selection): Promise<FoundLetter[]> {
    const queue = this.#queue(DEAD_LETTER_QUEUE);
    const jobs = await withRedis("reading dead letters", () => Promise.all(ids.map((id) => readJob(queue, id))));
    return jobs.flatMap((job, index) => {
      const id = ids[index];
      // The letter was trimmed or removed by hand in the meantime.
      if (job === undefined || id === undefined) return [];
      const letter = asLetter(job.data);
      const [source, reason] = [asText(letter.source), asText(letter.reason)];
      if ((selection.source ?? source) !== source || (selection.reason ?? reason) !== reason) return [];
      const replay = this.#replayed(letter);
      return [{ id, source, reason: cut(reason, MAX_SHOWN), replay, outcome: outcomeOf(replay, selection) }];
    });
  }

  #replayed(letter: StoredLetter): Replayed {
    const { redaction, exporters } = this.#options;
    const replay = replayed(letter, { exporters, now: Date.now() / 1_000 });
    return redaction === undefined ? replay : redacted(replay, redaction);
  }

  /** Stores the contents first, and removes the letters afterwards. */
  async #replay(letters: readonly FoundLetter[]): Promise<void> {
    if (letters.length === 0) return;
    const replays = letters.map(({ replay }) => replay);
    const refused = await this.#toEveryExporter(replays);
    const jobs = jobsOf(replays);
    await withRedis("replaying dead letters", async () => {
      for (const { queueName, name, data } of jobs) await this.#queue(queueName).add(name, data);
    });
    // Only once everything is stored. If the queue is full, these push out its oldest letters, which are most likely the ones replayed
    // here.
    await this.#options.deadLetters.add(refused);
    await this.#remove(letters);
  }

  async #remove(letters: readonly FoundLetter[]): Promise<void> {
    await withRedis("removing dead letters", async () => {
      const queue = this.#queue(DEAD_LETTER_QUEUE);
      await Promise.all(letters.map(({ id }) => queue.remove(id)));
    });
  }

  /** Does the same as the receiver (apps/receiver/src/batches.ts), and returns letters for what it still does not accept. */
  async #toEveryExporter(replays: readonly Replayed[]): Promise<DeadLetter[]> {
    const inputs = replays.filter((replay) => replay.to === "every exporter");
    if (inputs.length === 0) return [];
    const { filter, fanout } = this.#options;
    const now = Date.now() / 1_000;
    const decoded = inputs.flatMap(({ events }) => events);
    const present = decoded.filter((event) => !isFuture(event, now));
    const admitted = filter === undefined ? admitAll(present) : await filter.admit(present);
    await fanout.enqueue({ broker: BROKER, ...admitted });
    const rejected = inputs.flatMap((input) => input.rejected);
    return [...rejected.map(letterOf), ...lettersOfFuture(decoded.filter((event) => isFuture(event, now)))];
  }

  #queue(name: string): Queue {
    const queue = this.#queues.get(name) ?? openQueue(name, this.#options);
    this.#queues.set(name, queue);
    return queue;
  }
}

/** Undefined if the job is gone. */
async function readJob(queue: Queue, id: string): Promise<Pick<Job<unknown>, "data"> | undefined> {
  try {
    return (await queue.getJob(id)) as Job<unknown> | undefined;
  } catch (thrown) {
    // BullMQ cannot read data that is not JSON, which other software has put there.
    if (toError(thrown) instanceof SyntaxError) return { data: undefined };
    throw thrown;
  }
}

function asLetter(data: unknown): StoredLetter {
  return typeof data === "object" && data !== null ? data : {};
}

function asText(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function outcomeOf(replay: Replayed, { discard }: Selection): ReplayedLetter["outcome"] {
  if (discard === "all") return "discarded";
  if (replay.to !== "nobody") return "replayed";
  return discard === "unreplayable" ? "discarded" : "left";
}

interface QueuedJob {
  readonly queueName: string;
  readonly name: string;
  readonly data: unknown;
}

/** One job for all events of an exporter, one for all its ids, and one for each payload. A bad event is found by splitting. */
function jobsOf(replays: readonly Replayed[]): QueuedJob[] {
  const batches = new Map<string, EventBatch & { events: EventBatch["events"][number][]; marked: MarkedTask[] }>();
  const batchOf = (exporter: string) => {
    const batch = batches.get(exporter) ?? { broker: BROKER, events: [], marked: [] };
    batches.set(exporter, batch);
    return batch;
  };
  const ids = new Map<string, string[]>();
  const jobs: QueuedJob[] = [];
  for (const replay of replays) {
    if (replay.to === "exporter") batchOf(replay.exporter).events.push(replay.event);
    if (replay.to === "forget") batchOf(replay.exporter).marked.push({ id: replay.id, marks: [UNWANTED] });
    if (replay.to === "process") ids.set(replay.exporter, [...(ids.get(replay.exporter) ?? []), replay.id]);
    if (replay.to === "queue") jobs.push({ queueName: replay.queueName, name: replay.jobName, data: replay.payload });
  }
  for (const [exporter, batch] of batches) {
    jobs.push({ queueName: eventsQueueName(exporter), name: JOB_NAMES.batch, data: encodeBatch(batch) });
  }
  for (const [exporter, list] of ids) {
    jobs.push({ queueName: processingQueueName(exporter), name: JOB_NAMES.ids, data: encodeIds(list) });
  }
  return jobs;
}
