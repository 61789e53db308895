/** Synthetic tasks at a steady rate or as one burst, and the truth about them. */
import { randomUUID } from "node:crypto";
import { seededRandom, toFrames, type Frame, type Publisher, type WireEvent } from "@celery-metrics-exporter/testkit";
import { syntheticTask, type ExpectedTask } from "./synthetic-task.ts";

export interface LoadOptions {
  readonly publisher: Publisher;
  readonly eventsPerSecond: number;
  readonly seed?: number;
  /** Starts no further tasks after this many events: a test on a busy machine takes longer, and should not have more to compare. Default: no limit. */
  readonly maxEvents?: number;
}

/** Sums up the expected results of all tasks so far. */
export interface Truth {
  readonly tasks: readonly ExpectedTask[];
  /** Number of published events. */
  readonly events: number;
}

/** The combined truth of several loads. */
export function together(...truths: readonly Truth[]): Truth {
  return { tasks: truths.flatMap(({ tasks }) => tasks), events: truths.reduce((sum, { events }) => sum + events, 0) };
}

const TICK_MS = 20;
const EVENTS_PER_TASK = 4;
const MICROSECONDS_PER_MS = 1_000;
/** Events per publish in a burst. */
const BURST_TASKS = 250;

/** A running load. */
export class Load implements Truth {
  readonly tasks: ExpectedTask[] = [];
  events = 0;
  readonly #publisher: Publisher;
  readonly #random: () => number;
  readonly #tasksPerTick: number;
  readonly #maxEvents: number;
  /** Events that happen later, by tick. */
  readonly #due = new Map<number, WireEvent[]>();
  readonly #began = Date.now();
  #tick = 0;
  #owed = 0;
  #stopping = false;
  readonly #running: Promise<void>;

  private constructor({ publisher, eventsPerSecond, seed = 1, maxEvents = Number.POSITIVE_INFINITY }: LoadOptions) {
    this.#publisher = publisher;
    this.#random = seededRandom(seed);
    this.#tasksPerTick = (eventsPerSecond / EVENTS_PER_TASK / 1_000) * TICK_MS;
    this.#maxEvents = maxEvents;
    this.#running = this.#run();
    // `stop` reports it.
    this.#running.catch(() => {});
  }

  static start(options: LoadOptions): Load {
    return new Load(options);
  }

  /**
   * Starts no further tasks, publishes the rest of those begun, and resolves when the broker has everything.
   *
   * @throws {Error} if something could not be published.
   */
  async stop(): Promise<Truth> {
    this.#stopping = true;
    await this.#running;
    await this.#publisher.confirmed();
    return this;
  }

  async #run(): Promise<void> {
    while (!this.#stopping || this.#due.size > 0) {
      // A busy machine catches up: the rate applies to the whole run.
      const ticks = Math.floor((Date.now() - this.#began) / TICK_MS);
      if (this.#tick >= ticks) await new Promise((resolve) => setTimeout(resolve, TICK_MS));
      else await this.#step();
    }
  }

  async #step(): Promise<void> {
    if (!this.#stopping && this.events < this.#maxEvents) {
      this.#owed += this.#tasksPerTick;
      for (; this.#owed >= 1; this.#owed -= 1) this.#add();
    }
    const events = this.#due.get(this.#tick) ?? [];
    this.#due.delete(this.#tick);
    this.#tick += 1;
    this.events += events.length;
    if (events.length > 0) await this.#publisher.publish(toFrames(events));
  }

  #add(): void {
    const now = this.#began + this.#tick * TICK_MS;
    const { events, expected } = syntheticTask(randomUUID(), now * MICROSECONDS_PER_MS, this.#random);
    this.tasks.push(expected);
    for (const event of events) {
      const tick = Math.max(this.#tick, Math.floor((event.timestamp * 1_000 - this.#began) / TICK_MS));
      const due = this.#due.get(tick);
      if (due === undefined) this.#due.set(tick, [event]);
      else due.push(event);
    }
  }
}

/** The frames of a burst, prepared in advance because creating them takes longer than publishing them. */
export interface PreparedBurst extends Truth {
  readonly frames: readonly (readonly Frame[])[];
}

/** At least this many events; tasks overlap as on busy workers. */
export function prepareBurst(events: number, seed = 1): PreparedBurst {
  const random = seededRandom(seed);
  const tasks: ExpectedTask[] = [];
  const frames: Frame[][] = [];
  let prepared = 0;
  while (prepared < events) {
    const lives = Array.from({ length: BURST_TASKS }, () => syntheticTask(randomUUID(), Date.now() * MICROSECONDS_PER_MS, random));
    const inOrder = lives.flatMap((life) => life.events).sort((one, other) => one.timestamp - other.timestamp);
    for (const { expected } of lives) tasks.push(expected);
    prepared += inOrder.length;
    frames.push(toFrames(inOrder));
  }
  return { tasks, events: prepared, frames };
}

/** Publishes as fast as the broker accepts it. Resolves when the broker has everything. */
export async function publishBurst(publisher: Publisher, { frames }: PreparedBurst): Promise<void> {
  for (const some of frames) await publisher.publish(some);
  await publisher.confirmed();
}
