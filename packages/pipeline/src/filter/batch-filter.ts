/**
 * Filters by task name and queue, although most events carry neither. They are applied to whole batches, in the receiver and again in each
 * host.
 */
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

/** A task of which the exporters must know what is known of its attempts (`attempt-memory.ts`). */
export interface MarkedTask {
  readonly id: string;
  readonly marks: readonly string[];
}

/** What is left of a batch, in the form of an `EventBatch`. */
export interface Admitted {
  readonly events: readonly CeleryEvent[];
  /** Tasks that are excluded after events of theirs may have passed; and tasks with events here that are kept after they were excluded. */
  readonly marked: readonly MarkedTask[];
  /** Whether some tasks with events here may still turn out to be excluded. */
  readonly doubtful: boolean;
}

/** The result without a filter: the whole batch. */
export function admitAll(events: readonly CeleryEvent[]): Admitted {
  return { events, marked: [], doubtful: false };
}

/** The filter for the settings; undefined if none is set. */
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

/** A task whose events do not all pass unchanged. */
interface Exception {
  readonly isExcluded: boolean;
  readonly marks: readonly string[];
}

/** Age from which an attempt may have been forgotten in the meantime, so that events of it may have passed. */
const LATE_MS = (DOUBTFUL_EXPIRY_SECONDS / 2) * 1_000;

/**
 * Decides which events pass.
 *
 * An attempt is judged by its own name and queue, and a task is kept if any of its attempts is wanted. What is known of a task's attempts
 * is a set of marks in Redis that only grows, and every decision follows from it. So it does not matter how events are grouped into
 * batches, or which process gets which batch.
 *
 *   kept      its events pass; descriptions of unwanted attempts are marked (the event's `excluded`)
 *   excluded  its events are set aside, in the same step that finds the task excluded. A process that marks the task as kept reads them in
 *             the same step and passes them on. So either this process sees what was set aside, or the process that sets something aside
 *             sees that the task is kept.
 *   unknown   its events pass and are also set aside, because events that passed are removed again (`forget`) if the task turns out to be
 *             excluded
 *
 * The memory is written before the batch is stored. If the process is killed in between, the same batch comes again, with the same result
 * and the same marked tasks.
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

  /** What the filter remembers of tasks; undefined without a filter by name or queue, because then nothing is remembered. */
  get memory(): AttemptMemory | undefined {
    return this.#filter.filtersTasks ? this.#memory : undefined;
  }

  /** Whether it needs this event to judge the task, even if no exporter takes the event. */
  needs(event: CeleryEvent): boolean {
    return this.#filter.filtersTasks && this.#filter.verdictOn(event) !== undefined;
  }

  /**
   * Drops unwanted event types and events of excluded tasks; adds the events set aside of tasks that are kept after all. Events of unwanted
   * types are judged too, because they may carry the name or the queue.
   *
   * @throws {UnavailableError} if Redis is unavailable, or if a process that does not know yet that a task is kept is forgetting it now.
   * Call again with the same batch.
   */
  async admit(events: readonly CeleryEvent[]): Promise<Admitted> {
    if (!this.#filter.filtersTasks) return admitAll(this.#wanted(events));
    const gathered = this.#gather(events);
    const excluded = this.#byTask(
      events,
      idsWhere(gathered, ({ marks }) => standingOf(marks) === "excluded"),
    );
    const known = await this.#memory.note(new Map(Array.from(gathered, ([id, task]) => [id, this.#noteOf(task, excluded.get(id))])));
    const undecided = idsWhere(known, ({ marks }, id) => !excluded.has(id) && !this.#isDecided(marks));
    const setAside = await this.#setAside(this.#byTask(events, undecided), known);

    const exceptions = new Map<string, Exception>();
    const released: CeleryEvent[] = [];
    const marked: MarkedTask[] = [];
    let doubtful = false;
    for (const [id, task] of gathered) {
      const { marks, isLocked } = setAside.get(id) ?? known.get(id) ?? NOTHING;
      const isExcluded = standingOf(marks) === "excluded";
      doubtful ||= !isExcluded && !isKeptForGood(marks);
      if (!hasUnwanted(marks)) continue;
      exceptions.set(id, { isExcluded, marks });
      if (isExcluded && !mustBeMarked(task, marks)) continue;
      marked.push({ id, marks });
      if (isExcluded) continue;
      if (isLocked) throw new UnavailableError(`task ${id} is being forgotten`);
      for (const event of known.get(id)?.aside ?? []) released.push(event);
    }
    return { events: this.#passing(released.length === 0 ? events : [...released, ...events], exceptions), marked, doubtful };
  }

  /**
   * The ids among these whose tasks are excluded by what is known now.
   *
   * @throws {UnavailableError} if Redis is unavailable.
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
    return this.#isDecided(marks) ? "for good" : "for now";
  }

  /**
   * Whether a task is kept and none of its events has to be set aside. A `task-received` alone does not decide that if clients send
   * `task-sent`, which may differ: a `task-received` has no queue, and may have a shadow name. Many clients send no `task-sent`.
   */
  #isDecided(marks: readonly string[]): boolean {
    if (isKeptForGood(marks)) return true;
    return !this.#seesSent && !this.#filter.filtersQueues && standingOf(marks) === "kept" && !hasUnwanted(marks);
  }

  /** Sets aside events of tasks that are not known to be kept for good. */
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
        // For exporters, a `task-sent` means that the task is kept for good: they will not forget it.
        else if (event.type !== "task-sent" || isKeptForGood(exception.marks)) passing.push({ ...event, excluded: true });
      }
    }
    return passing;
  }

  #wanted(events: readonly CeleryEvent[]): readonly CeleryEvent[] {
    return events.filter(({ type }) => this.#filter.takesType(type));
  }
}

/** The ids of tasks that are excluded by what is known of them. */
export function excludedIn(known: ReadonlyMap<string, Remembered>): string[] {
  return [...known].filter(([, { marks }]) => standingOf(marks) === "excluded").map(([id]) => id);
}

/** The ids of all tasks that these events belong to. */
export function idsOf(events: readonly CeleryEvent[]): Set<string> {
  return new Set(events.map(idOf).filter((id) => id !== undefined));
}

export function withoutTasks(events: readonly CeleryEvent[], ids: ReadonlySet<string>): readonly CeleryEvent[] {
  return ids.size === 0 ? events : events.filter((event) => !ids.has(idOf(event) ?? ""));
}

/**
 * Drops the marks of `task-received` for attempts that also have a `task-sent` in the batch. The `task-sent` decides, so the others need
 * not be remembered.
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

/**
 * Whether an excluded task must be marked. Only a batch that itself shows the exclusion marks it: if that batch was lost, the same
 * batch comes again. A task of which nothing passed is not marked at all.
 */
function mustBeMarked({ marks, describedAt }: Gathered, known: readonly string[]): boolean {
  return hasUnwanted(marks) && (hasPassed(known) || Date.now() - describedAt > LATE_MS);
}

function idOf(event: CeleryEvent): string | undefined {
  return "uuid" in event ? event.uuid : undefined;
}
