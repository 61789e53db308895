/** Counts tasks: from batches of events to the counts in Redis. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import type { Schedule } from "@celery-metrics-exporter/pipeline";
import {
  type CountChange,
  type CountedTask,
  type Tally,
  type TalliedEvent,
  type TaskCounts,
  tally,
} from "@celery-metrics-exporter/task-store";
import { CODES, type HistogramFields, WAITING, WAITING_MINUTE_SECONDS } from "./fields.ts";
import { type LabelRegistry, labelSet } from "./label-registry.ts";

export type HostnameLabel = "generic" | "host" | "worker";

export interface CountingOptions {
  readonly counts: TaskCounts;
  /** Sets of name, queue and hostname. */
  readonly labels: LabelRegistry;
  readonly exceptions: LabelRegistry;
  readonly hostnames: LabelRegistry;
  readonly hostnameLabel: HostnameLabel;
  /** The queue of attempts of which no event tells it. */
  readonly defaultQueue: string;
  readonly runtime: HistogramFields;
  readonly failedRuntime: HistogramFields;
  readonly wait: HistogramFields;
  readonly schedule: Schedule;
  /** How long to wait for a name or queue that is missing, in milliseconds. */
  readonly incompleteWaitMs: number;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

export const UNKNOWN_NAME = "unknown";
/** The label value of what is past a limit. */
export const OTHER = "other";
export const GENERIC_HOSTNAME = "generic";
/** As in celery-exporter. */
export const UNKNOWN_EXCEPTION = "UnknownException";

/** Without any `task-sent` for this long, none is waited for: then clients do not send them. */
const UNSENT_AFTER_MS = 60_000;

interface Looked {
  readonly task: CountedTask;
  readonly whole: Tally;
  readonly kept: Tally | undefined;
  readonly isFinalLook: boolean;
}

export class Counting {
  readonly #options: CountingOptions;
  readonly #now: () => number;
  #sentAt: number;

  constructor(options: CountingOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#sentAt = this.#now();
  }

  /** Counts events whose labels are known, and schedules the tasks of the others. */
  async export(events: readonly CeleryEvent[]): Promise<void> {
    if (events.some(({ type }) => type === "task-sent")) this.#sentAt = this.#now();
    const incomplete = await this.#count(await this.#options.counts.merge(events), false);
    await this.#options.schedule(incomplete, { delayMs: this.#options.incompleteWaitMs });
  }

  /** Counts everything of these tasks, whatever is missing. Returns how many are known. */
  async process(ids: readonly string[]): Promise<number> {
    const tasks = await this.#options.counts.read(ids);
    const known = tasks.filter(({ entry }) => entry.size > 0);
    await this.#count(known, true);
    return known.length;
  }

  /** Removes tasks that have no `task-sent`, and what was counted of them. Returns how many. */
  async forget(ids: readonly string[]): Promise<number> {
    const { counts } = this.#options;
    let forgotten = 0;
    for (let left = ids; left.length > 0;) {
      const tasks = (await counts.read(left)).filter(({ entry }) => entry.size > 0 && entry.facts.sent.length === 0);
      left = await counts.remove(tasks);
      forgotten += tasks.length - left.length;
    }
    return forgotten;
  }

  /** Returns the ids of tasks that lack a name or queue. */
  async #count(read: readonly CountedTask[], isFinalLook: boolean): Promise<string[]> {
    const { counts } = this.#options;
    const incomplete: string[] = [];
    for (let tasks = read; tasks.length > 0;) {
      const looked = tasks.map((task) => look(task, isFinalLook));
      const contributionOf = await this.#contributions(looked);
      const others = await counts.add(
        looked.map((each): CountChange => {
          const { task, whole, kept } = each;
          return {
            task,
            contribution: contributionOf(whole, each.isFinalLook),
            keptContribution: kept && contributionOf(kept, each.isFinalLook),
            isFinalLook: each.isFinalLook,
            ended: whole.ended,
          };
        }),
      );
      const changed = new Set(others);
      for (const { task, whole, isFinalLook: isFinal } of looked) {
        if (!isFinal && !changed.has(task.id) && whole.events.some((event) => this.#lacksLabel(event))) incomplete.push(task.id);
      }
      tasks = others.length === 0 ? [] : await counts.read(others);
    }
    return incomplete;
  }

  /** What each task contributes, once all labels are resolved. */
  async #contributions(looked: readonly Looked[]): Promise<(tally: Tally, isFinalLook: boolean) => Map<string, number>> {
    const { labels, exceptions } = this.#options;
    const hostnameOf = await this.#hostnames(looked);
    const sets = new Set<string>();
    const classes = new Set<string>();
    for (const { whole, isFinalLook } of looked) {
      for (const event of whole.events) {
        if (!isFinalLook && this.#lacksLabel(event)) continue;
        sets.add(this.#setOf(event, hostnameOf(event)));
        if (event.kind === "failed") classes.add(exceptionOf(event));
      }
      for (const message of whole.waiting) sets.add(this.#setOf(message, GENERIC_HOSTNAME));
    }
    const ids = await labels.resolve(sets);
    const exceptionIds = await exceptions.resolve(classes);
    return ({ events, waiting }, isFinalLook) => {
      const contribution = new Map<string, number>();
      const add = (field: string, by: number): void => void contribution.set(field, (contribution.get(field) ?? 0) + by);
      for (const event of events) {
        if (!isFinalLook && this.#lacksLabel(event)) continue;
        const id = ids.get(this.#setOf(event, hostnameOf(event))) ?? labels.otherId;
        const exception = event.kind === "failed" ? (exceptionIds.get(exceptionOf(event)) ?? exceptions.otherId) : "";
        add(`${id}.${CODES[event.kind]}${exception}`, 1);
        const [histogram, seconds] = this.#observed(event);
        if (seconds === undefined) continue;
        add(`${id}.${histogram.bucketOf(seconds)}`, 1);
        const microseconds = Math.round(seconds * 1e6);
        if (microseconds !== 0) add(`${id}.${histogram.sum}`, microseconds);
      }
      for (const message of waiting) {
        const id = ids.get(this.#setOf(message, GENERIC_HOSTNAME)) ?? labels.otherId;
        add(`${id}.${WAITING}${Math.floor(message.since / WAITING_MINUTE_SECONDS).toString(36)}`, 1);
      }
      return contribution;
    };
  }

  #observed({ kind, runtime, wait }: TalliedEvent): readonly [HistogramFields, number | undefined] {
    if (kind === "started") return [this.#options.wait, wait];
    return kind === "failed" ? [this.#options.failedRuntime, runtime] : [this.#options.runtime, runtime];
  }

  /** The value of the label `hostname` for each event. Never a client's: each client process has its own. */
  async #hostnames(looked: readonly Looked[]): Promise<(event: TalliedEvent) => string> {
    const { hostnames, hostnameLabel } = this.#options;
    if (hostnameLabel === "generic") return () => GENERIC_HOSTNAME;
    const nameOf = ({ worker = "" }: TalliedEvent): string => (hostnameLabel === "host" ? worker.slice(worker.indexOf("@") + 1) : worker);
    const events = looked.flatMap(({ whole }) => whole.events.filter(({ kind }) => kind !== "sent"));
    const ids = await hostnames.resolve(new Set(events.map(nameOf)));
    return (event) => {
      if (event.kind === "sent") return GENERIC_HOSTNAME;
      const name = nameOf(event);
      return ids.get(name) === hostnames.otherId ? OTHER : name;
    };
  }

  #setOf({ name, queue }: Pick<TalliedEvent, "name" | "queue">, hostname: string): string {
    return labelSet(name ?? UNKNOWN_NAME, queue ?? this.#options.defaultQueue, hostname);
  }

  #lacksLabel({ name, queue }: TalliedEvent): boolean {
    return name === undefined || (queue === undefined && this.#now() - this.#sentAt < UNSENT_AFTER_MS);
  }
}

function look(task: CountedTask, isFinalLook: boolean): Looked {
  return {
    task,
    whole: tally(task.entry),
    kept: task.kept && tally(task.kept.entry),
    isFinalLook: isFinalLook || task.isFinalLook,
  };
}

function exceptionOf({ exception }: TalliedEvent): string {
  return exception ?? UNKNOWN_EXCEPTION;
}
