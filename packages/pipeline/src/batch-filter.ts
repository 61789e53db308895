/** Filters by task name and queue, for events that mostly carry neither: applied to whole batches, in the receiver and again in each host. */
import { isFinal, isTaskEvent, type CeleryEvent } from "@celery-metrics-exporter/events";
import type { EventBatch } from "./batch.ts";
import type { ExcludedTasks } from "./excluded-tasks.ts";
import type { EventFilter } from "./task-filter.ts";

/** What the receiver passes on of a batch: spread it into the `EventBatch`, and `settle` it once that is enqueued. */
export interface Admitted {
  readonly events: readonly CeleryEvent[];
  readonly excluded?: readonly string[];
  readonly kept: readonly string[];
  /** Ids to be remembered as excluded; those in `kept` are remembered as that. */
  readonly toRemember: ReadonlySet<string>;
  /** Ids among both whose final event has been seen. */
  readonly finished: ReadonlySet<string>;
}

/** What a host exports of a batch. */
export interface Screened {
  readonly events: readonly CeleryEvent[];
  /** Ids that this batch itself shows to be excluded: to be forgotten, whatever was exported of them before. */
  readonly told: readonly string[];
  readonly finished: ReadonlySet<string>;
  /** Whether a filter is at work, here or in the receiver, so that `leftovers` has to be asked after the export. */
  readonly filtered: boolean;
}

const NO_IDS: ReadonlySet<string> = new Set();

/** What the events of a batch say of their tasks. */
interface Told {
  /** By their first attempt. */
  readonly excluded: ReadonlySet<string>;
  /** By any attempt. */
  readonly kept: ReadonlySet<string>;
}

/**
 * Which tasks are excluded, and why no half-known row of an excluded task can remain, though events come in any order and batches run at the
 * same time.
 *
 * An attempt is judged by its own name and queue. A task's first attempt excludes the task: all its events are dropped, most of which carry
 * neither. Any attempt that is wanted *keeps* the task, for good: from then on all its events pass, and those that describe an unwanted attempt
 * are marked (`excluded` of the event), for exporters that can leave a single attempt out. A further attempt that is not wanted is only marked:
 * the task was wanted before, or else it is excluded already.
 *
 * An event that shows a task to be excluded becomes, in the receiver, an entry of the batch's `excluded`, which every exporter gets. The
 * receiver remembers the id only *after* that batch is enqueued: a receiver killed in between has not remembered, and says it again.
 * (Where only a host has the filter, the event itself plays that part.)
 *
 * Let B be the batch that shows X to be excluded, and A any batch with events of X. For B the host does: remember X (`screen`,
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
   * may be in events whose types are not wanted, so all events are judged.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async admit(events: readonly CeleryEvent[]): Promise<Admitted> {
    if (!this.#filter.filtersTasks) return { events: this.#wanted(events), kept: [], toRemember: NO_IDS, finished: NO_IDS };
    const known = await this.#memory.among(idsOf(events));
    const told = this.#toldBy(events, known.excluded);
    const kept = new Set([...told.kept, ...known.kept]);
    const isExcluded = (id: string): boolean => !kept.has(id) && (told.excluded.has(id) || known.excluded.has(id));
    const excluded = [...told.excluded].filter((id) => isExcluded(id) && !known.excluded.has(id));
    const finished = finishedIn(events, (id) => kept.has(id) || isExcluded(id));
    return {
      events: this.#wanted(this.#marked(withoutTasks(events, isExcluded))),
      excluded,
      kept: [...kept],
      toRemember: new Set([...excluded, ...[...finished].filter(isExcluded)]),
      finished,
    };
  }

  /**
   * The receiver's part, after the admitted batch is enqueued.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async settle({ toRemember, kept, finished }: Admitted): Promise<void> {
    await this.#memory.keep(kept, finished);
    await this.#memory.remember(toRemember, finished);
  }

  /**
   * The host's part before the export.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async screen({ events, excluded, kept: keptBefore = [] }: EventBatch): Promise<Screened> {
    if (!this.#filter.filtersTasks && excluded === undefined) {
      return { events: this.#wanted(events), told: [], finished: NO_IDS, filtered: false };
    }
    const known = await this.#memory.among(new Set([...idsOf(events), ...(excluded ?? [])]));
    const told = this.#toldBy(events, known.excluded);
    const kept = new Set([...told.kept, ...known.kept, ...keptBefore]);
    const toldExcluded = [...told.excluded, ...(excluded ?? [])].filter((id) => !kept.has(id));
    const all = new Set([...toldExcluded, ...[...known.excluded].filter((id) => !kept.has(id))]);
    const finished = finishedIn(events, (id) => kept.has(id) || all.has(id));
    await this.#memory.keep(kept, finished);
    await this.#memory.remember(new Set([...toldExcluded, ...[...finished].filter((id) => all.has(id))]), finished);
    const passed = withoutTasks(events, (id) => all.has(id));
    return { events: this.#wanted(this.#marked(passed)), told: [...new Set(toldExcluded)], finished, filtered: true };
  }

  /**
   * The host's part after the export: the ids that the exporter has to forget.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async leftovers({ events, told, filtered }: Screened): Promise<string[]> {
    if (!filtered) return [];
    const { excluded, kept } = await this.#memory.among(new Set([...told, ...idsOf(events)]));
    return [...new Set([...told.filter((id) => !kept.has(id)), ...excluded])];
  }

  /**
   * The host's part before each try to forget: B's remembering, in the argument above.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async remind({ told, finished }: Screened): Promise<void> {
    await this.#memory.remember(told, finished);
  }

  #wanted(events: readonly CeleryEvent[]): readonly CeleryEvent[] {
    return events.filter(({ type }) => this.#filter.takesType(type));
  }

  /** @param known ids that are excluded by their first attempt already. */
  #toldBy(events: readonly CeleryEvent[], known: ReadonlySet<string>): Told {
    const excluded = new Set<string>();
    const included: { readonly id: string; readonly byFurther: boolean; readonly bySent: boolean }[] = [];
    for (const event of events) {
      const id = idOf(event);
      const verdict = id === undefined ? undefined : this.#filter.verdictOn(event);
      if (id === undefined || verdict === undefined) continue;
      const byFurther = isFurtherAttempt(event);
      if (verdict === "included") included.push({ id, byFurther, bySent: event.type === "task-sent" });
      else if (!byFurther) excluded.add(id);
    }
    // A message beside the one that excluded the task is another attempt even where it does not say so. (A receipt may be of the same one, under
    // its shadow name.)
    const kept = included.filter(({ id, byFurther, bySent }) => byFurther || (bySent && (excluded.has(id) || known.has(id))));
    return { excluded, kept: new Set(kept.map(({ id }) => id)) };
  }

  /** Marks descriptions of attempts that are not wanted; the others stay the same objects. */
  #marked(events: readonly CeleryEvent[]): readonly CeleryEvent[] {
    if (!this.#filter.filtersTasks) return events;
    return events.map((event) => (this.#filter.verdictOn(event) === "excluded" ? { ...event, excluded: true } : event));
  }
}

/** Whether the message was sent from within the task itself: a retry, or a replacement. */
export function isFurtherAttempt(event: CeleryEvent): boolean {
  const { again = false, retries = 0 } = event as { readonly again?: boolean; readonly retries?: number };
  return again || retries > 0;
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
