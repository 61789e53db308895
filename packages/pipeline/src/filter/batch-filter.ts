/** Filters by task name and queue, for events that mostly carry neither: applied to whole batches, in the receiver and again in each host. */
import { type CeleryEvent, isFinal, isTaskEvent } from "@celery-metrics-exporter/celery";
import { UnavailableError } from "@celery-metrics-exporter/runtime";
import {
  AttemptMemory,
  type AttemptMemoryOptions,
  DOUBTFUL_EXPIRY_SECONDS,
  type Note,
  PASSED,
  type Remembered,
  hasPassed,
  hasUnwanted,
  isKeptForGood,
  isUnwanted,
  markOf,
  standingOf,
} from "./attempt-memory.ts";
import { EventFilter, type FilterConfig, isDescription } from "./task-filter.ts";

/** A task that the exporters have to be told of, and what is known of its attempts (`attempt-memory.ts`). */
export interface ToldTask {
  readonly id: string;
  readonly marks: readonly string[];
}

/** What is left of a batch, as an `EventBatch` takes it. */
export interface Admitted {
  readonly events: readonly CeleryEvent[];
  /** Tasks that are excluded though events of theirs may have passed, and those with events here that are kept though they were excluded. */
  readonly told: readonly ToldTask[];
  /** Whether there are events of tasks here that may yet turn out to be excluded. */
  readonly doubtful: boolean;
}

/** Without a filter: all of it. */
export function admitAll(events: readonly CeleryEvent[]): Admitted {
  return { events, told: [], doubtful: false };
}

/** The filter that the settings ask for; undefined where they ask for none. */
export function openFilter(config: FilterConfig, memory: AttemptMemoryOptions): BatchFilter | undefined {
  const filter = new EventFilter(config);
  return filter.filtersTasks || filter.filtersTypes ? new BatchFilter(filter, new AttemptMemory(memory)) : undefined;
}

/** What the events of one batch say of one task. */
interface Gathered {
  marks: readonly string[];
  describedAt: number;
  finishedAt: number;
}

/** A task of which not all events pass as they are. */
interface Exception {
  readonly isExcluded: boolean;
  readonly marks: readonly string[];
}

/** Attempts that were described so long ago may have been forgotten since, and events of theirs have passed. */
const LATE_MS = (DOUBTFUL_EXPIRY_SECONDS / 2) * 1_000;

/**
 * Which events pass.
 *
 * An attempt is judged by its own name and queue, and a task is kept if any attempt of it is wanted. What is known of a task's attempts is a set
 * of marks in Redis that only grows, and all follows from it: so it does not matter how events fell into batches, nor who got which.
 *
 *   kept      its events pass; descriptions of unwanted attempts are marked (`excluded` of the event)
 *   excluded  its events are set aside, in the same step that finds it excluded. Whoever marks it as kept finds them, in the same step too, and
 *             passes them on: either that one sees what was set aside, or who sets something aside sees that the task is kept.
 *   unknown   its events pass, and are set aside as well, since what passed is removed again (`forget`) if the task turns out to be excluded
 *
 * The memory is written before the batch is stored: whoever is killed in between gets the same batch again, and does and tells the same.
 */
export class BatchFilter {
  readonly #filter: EventFilter;
  readonly #memory: AttemptMemory;
  /** Whether any client sends `task-sent`. */
  #seesSent = false;

  constructor(filter: EventFilter, memory: AttemptMemory) {
    this.#filter = filter;
    this.#memory = memory;
  }

  /** What the filter remembers of tasks; undefined where none is set by name or queue, and so nothing is remembered. */
  get memory(): AttemptMemory | undefined {
    return this.#filter.filtersTasks ? this.#memory : undefined;
  }

  /** Whether it has to see this event, even if no exporter takes it: to judge the task by it. */
  needs(event: CeleryEvent): boolean {
    return this.#filter.filtersTasks && this.#filter.verdictOn(event) !== undefined;
  }

  /**
   * Drops event types that are not wanted, and events of tasks that are excluded; adds what was set aside of those that are kept after all. The
   * name and the queue may be in events whose types are not wanted, so all events are judged.
   *
   * @throws {UnavailableError} when Redis does not serve, or a task that is kept is just being forgotten by somebody who did not know: call
   * again with the same batch.
   */
  async admit(events: readonly CeleryEvent[]): Promise<Admitted> {
    if (!this.#filter.filtersTasks) return admitAll(this.#wanted(events));
    const gathered = this.#gather(events);
    const excluded = this.#byTask(
      events,
      idsWhere(gathered, ({ marks }) => standingOf(marks) === "excluded"),
    );
    const known = await this.#memory.note(new Map(Array.from(gathered, ([id, task]) => [id, this.#noteOf(task, excluded.get(id))])));
    const unsettled = idsWhere(known, ({ marks }, id) => !excluded.has(id) && !this.#isSettled(marks));
    const setAside = await this.#setAside(this.#byTask(events, unsettled), known);

    const exceptions = new Map<string, Exception>();
    const released: CeleryEvent[] = [];
    const told: ToldTask[] = [];
    let doubtful = false;
    for (const [id, task] of gathered) {
      const { marks, isLocked } = setAside.get(id) ?? known.get(id) ?? NOTHING;
      const isExcluded = standingOf(marks) === "excluded";
      doubtful ||= !isExcluded && !isKeptForGood(marks);
      if (!hasUnwanted(marks)) continue;
      exceptions.set(id, { isExcluded, marks });
      if (isExcluded && !mustBeTold(task, marks)) continue;
      told.push({ id, marks });
      if (isExcluded) continue;
      if (isLocked) throw new UnavailableError(`task ${id} is just being forgotten`);
      for (const event of known.get(id)?.aside ?? []) released.push(event);
    }
    return { events: this.#passing(released.length === 0 ? events : [...released, ...events], exceptions), told, doubtful };
  }

  /**
   * Of these tasks those that are excluded by what is known now.
   *
   * @throws {UnavailableError} when Redis does not serve.
   */
  async excludedAmong(ids: Iterable<string>): Promise<string[]> {
    if (!this.#filter.filtersTasks) return [];
    return excludedIn(await this.#memory.note(new Map([...ids].map((id) => [id, undefined]))));
  }

  #gather(events: readonly CeleryEvent[]): Map<string, Gathered> {
    const gathered = new Map<string, Gathered>();
    for (const event of events) {
      const id = idOf(event);
      if (id === undefined) continue;
      let task = gathered.get(id);
      if (task === undefined) {
        task = { marks: NO_MARKS, describedAt: 0, finishedAt: 0 };
        gathered.set(id, task);
      }
      const at = event.timestamp * 1_000;
      if (isDescription(event)) {
        this.#seesSent ||= event.type === "task-sent";
        const mark = markOf(event, this.#filter);
        if (mark !== undefined && !task.marks.includes(mark)) task.marks = [...task.marks, mark];
        task.describedAt = Math.max(task.describedAt, at);
      } else if (isTaskEvent(event) && isFinal(event)) {
        task.finishedAt = Math.max(task.finishedAt, at);
      }
    }
    for (const task of gathered.values()) if (task.marks.length > 1) task.marks = decided(task.marks);
    return gathered;
  }

  #noteOf({ marks, describedAt, finishedAt }: Gathered, aside: readonly CeleryEvent[] | undefined): Note | undefined {
    if (marks.length === 0 && describedAt === 0 && finishedAt === 0) return undefined;
    const keeps = this.#keeps(marks);
    return { marks, describedAt, finishedAt, ...(aside !== undefined && { aside }), ...(keeps !== undefined && { keeps }) };
  }

  #keeps(marks: readonly string[]): Note["keeps"] {
    if (!marks.some((mark) => mark.startsWith("+"))) return undefined;
    return this.#isSettled(marks) ? "for good" : "for now";
  }

  /**
   * Whether a task is kept, and none of its events has to be set aside. Its `task-sent` may say otherwise than its `task-received`, which has no
   * queue, and perhaps a shadow name. Many clients send none.
   */
  #isSettled(marks: readonly string[]): boolean {
    if (isKeptForGood(marks)) return true;
    return !this.#seesSent && !this.#filter.filtersQueues && standingOf(marks) === "kept" && !hasUnwanted(marks);
  }

  /** Sets events aside of tasks that are not kept for good, as far as is known. */
  async #setAside(
    aside: ReadonlyMap<string, readonly CeleryEvent[]>,
    known: ReadonlyMap<string, Remembered>,
  ): Promise<Map<string, Remembered>> {
    const isUnknown = (id: string): boolean => standingOf(known.get(id)?.marks ?? []) === "unknown";
    return this.#memory.note(new Map([...aside].map(([id, own]) => [id, { marks: isUnknown(id) ? [PASSED] : [], aside: own }])));
  }

  /** The events of these tasks that would pass. */
  #byTask(events: readonly CeleryEvent[], ids: readonly string[]): Map<string, CeleryEvent[]> {
    const byTask = new Map(ids.map((id): [string, CeleryEvent[]] => [id, []]));
    if (ids.length > 0) for (const event of this.#wanted(events)) byTask.get(idOf(event) ?? "")?.push(event);
    return byTask;
  }

  #passing(events: readonly CeleryEvent[], exceptions: ReadonlyMap<string, Exception>): readonly CeleryEvent[] {
    const passing: CeleryEvent[] = [];
    for (const event of events) {
      if (!this.#filter.takesType(event.type)) continue;
      const exception = exceptions.size === 0 ? undefined : exceptions.get(idOf(event) ?? "");
      if (exception === undefined) {
        passing.push(event);
      } else if (!exception.isExcluded) {
        if (!isDescription(event) || !isUnwanted(event, exception.marks, this.#filter)) passing.push(event);
        // That a task has a `task-sent` tells exporters that it is kept for good: it will not be forgotten.
        else if (event.type !== "task-sent" || isKeptForGood(exception.marks)) passing.push({ ...event, excluded: true });
      }
    }
    return passing;
  }

  #wanted(events: readonly CeleryEvent[]): readonly CeleryEvent[] {
    return events.filter(({ type }) => this.#filter.takesType(type));
  }
}

/** The tasks that are excluded by what is known of them. */
export function excludedIn(known: ReadonlyMap<string, Remembered>): string[] {
  return [...known].filter(([, { marks }]) => standingOf(marks) === "excluded").map(([id]) => id);
}

/** Of all tasks that events are of. */
export function idsOf(events: readonly CeleryEvent[]): Set<string> {
  return new Set(events.map(idOf).filter((id) => id !== undefined));
}

export function withoutTasks(events: readonly CeleryEvent[], ids: ReadonlySet<string>): readonly CeleryEvent[] {
  return ids.size === 0 ? events : events.filter((event) => !ids.has(idOf(event) ?? ""));
}

/**
 * What a batch says of the attempts of a task. What the `task-sent` of an attempt says stands: beside it a `task-received` tells nothing that is
 * worth to be remembered.
 */
function decided(marks: readonly string[]): readonly string[] {
  return marks.filter((mark) => !(mark[1] === "r" && (marks.includes(`-s${mark.slice(2)}`) || marks.includes(`+s${mark.slice(2)}`))));
}

function idsWhere<T>(tasks: ReadonlyMap<string, T>, matches: (task: T, id: string) => boolean): string[] {
  const ids: string[] = [];
  for (const [id, task] of tasks) if (matches(task, id)) ids.push(id);
  return ids;
}

const NO_MARKS: readonly string[] = [];
const NOTHING: Pick<Remembered, "marks" | "isLocked"> = { marks: [], isLocked: false };

/** Only by a batch that itself shows it, which is told again if nobody was told: so a task that nothing passed of is not told at all. */
function mustBeTold({ marks, describedAt }: Gathered, known: readonly string[]): boolean {
  return hasUnwanted(marks) && (hasPassed(known) || Date.now() - describedAt > LATE_MS);
}

function idOf(event: CeleryEvent): string | undefined {
  return "uuid" in event ? event.uuid : undefined;
}
