/** Filters by task name and queue, for events that mostly carry neither: applied to whole batches, in the receiver and again in each host. */
import { isFinal, isTaskEvent, type CeleryEvent } from "@celery-metrics-exporter/events";
import type { EventBatch } from "./batch.ts";
import type { ExcludedTasks } from "./excluded-tasks.ts";
import type { EventFilter } from "./task-filter.ts";

/** What the receiver passes on of a batch: spread it into the `EventBatch`, and `settle` it once that is enqueued. */
export interface Admitted {
  readonly events: readonly CeleryEvent[];
  readonly excluded?: readonly string[];
  /** Ids to be remembered, and those among them whose final event has been seen. */
  readonly toRemember: ReadonlySet<string>;
  readonly finished: ReadonlySet<string>;
}

/** What a host exports of a batch. */
export interface Screened {
  readonly events: readonly CeleryEvent[];
  /** Ids that this batch itself tells are excluded: to be forgotten, whatever was exported of them before. */
  readonly told: readonly string[];
  readonly finished: ReadonlySet<string>;
  /** Whether a filter is at work, here or in the receiver, so that `leftovers` has to be asked after the export. */
  readonly filtered: boolean;
}

const NO_IDS: ReadonlySet<string> = new Set();

/**
 * Why no half-known row of an excluded task can remain, though events come in any order and batches run at the same time.
 *
 * An event that tells the excluded name or queue becomes, in the receiver, an entry of the batch's `excluded`, which every exporter gets. The
 * receiver remembers the id only *after* that batch is enqueued: a receiver killed in between has not remembered, and tells again.
 * (Where only a host has the filter, the event itself plays that part.)
 *
 * Let B be the batch that tells X is excluded, and A any batch with events of X. For B the host does: remember X (`screen`,
 * `remind`); forget X. For A it does: look X up (`screen`); export; look X up again (`leftovers`); forget X if found. Of the two sequences,
 *
 *   - either A's second look-up comes after B's remembering: it finds X, and A itself forgets X after its export;
 *   - or it comes before: then A's export, which came before that, comes before B's forgetting, which removes it.
 *
 * A batch that is repeated repeats its sequence whole. B remembers anew before each try to forget, so that a long outage does not let the
 * memory expire in between. What remains possible is an A that is held up alone, for longer than the memory's expiry.
 */
export class BatchFilter {
  readonly #filter: EventFilter;
  readonly #memory: ExcludedTasks;

  constructor(filter: EventFilter, memory: ExcludedTasks) {
    this.#filter = filter;
    this.#memory = memory;
  }

  /**
   * The receiver's part: drops event types that are not wanted, and events of excluded tasks as far as they are known. The name and the queue
   * are told by types that may not be wanted, so all events are asked for them.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async admit(events: readonly CeleryEvent[]): Promise<Admitted> {
    const wanted = events.filter(({ type }) => this.#filter.takesType(type));
    if (!this.#filter.filtersTasks) return { events: wanted, toRemember: NO_IDS, finished: NO_IDS };
    const told = this.#toldBy(events);
    const known = await this.#memory.among(idsOf(events));
    const excluded = [...told].filter((id) => !known.has(id));
    const finished = finishedIn(events, (id) => told.has(id) || known.has(id));
    return {
      events: withoutTasks(wanted, (id) => told.has(id) || known.has(id)),
      excluded,
      toRemember: new Set([...excluded, ...finished]),
      finished,
    };
  }

  /**
   * The receiver's part, after the admitted batch is enqueued.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async settle({ toRemember, finished }: Admitted): Promise<void> {
    await this.#memory.remember(toRemember, finished);
  }

  /**
   * The host's part before the export.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async screen({ events, excluded }: EventBatch): Promise<Screened> {
    const wanted = events.filter(({ type }) => this.#filter.takesType(type));
    if (!this.#filter.filtersTasks && excluded === undefined) return { events: wanted, told: [], finished: NO_IDS, filtered: false };
    const told = this.#toldBy(events);
    for (const id of excluded ?? []) told.add(id);
    const known = await this.#memory.among(idsOf(events));
    const finished = finishedIn(events, (id) => told.has(id) || known.has(id));
    await this.#memory.remember(new Set([...told, ...finished]), finished);
    return { events: withoutTasks(wanted, (id) => told.has(id) || known.has(id)), told: [...told], finished, filtered: true };
  }

  /**
   * The host's part after the export: the ids that the exporter has to forget.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async leftovers({ events, told, filtered }: Screened): Promise<string[]> {
    if (!filtered) return [];
    return [...new Set([...told, ...(await this.#memory.among(idsOf(events)))])];
  }

  /**
   * The host's part before each try to forget: B's remembering, in the argument above.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async remind({ told, finished }: Screened): Promise<void> {
    await this.#memory.remember(told, finished);
  }

  #toldBy(events: readonly CeleryEvent[]): Set<string> {
    const ids = new Set<string>();
    for (const event of events) {
      const id = idOf(event);
      if (id !== undefined && this.#filter.excludesTask(event)) ids.add(id);
    }
    return ids;
  }
}

function idOf(event: CeleryEvent): string | undefined {
  return "uuid" in event ? event.uuid : undefined;
}

function idsOf(events: readonly CeleryEvent[]): Set<string> {
  return new Set(events.map(idOf).filter((id) => id !== undefined));
}

function withoutTasks(events: readonly CeleryEvent[], isExcluded: (id: string) => boolean): readonly CeleryEvent[] {
  return events.filter((event) => {
    const id = idOf(event);
    return id === undefined || !isExcluded(id);
  });
}

function finishedIn(events: readonly CeleryEvent[], isExcluded: (id: string) => boolean): Set<string> {
  return new Set(events.filter((event) => isTaskEvent(event) && isFinal(event) && isExcluded(event.uuid)).map(idOf) as string[]);
}
