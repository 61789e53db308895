/** What tasks count as: from the events of a task to fields of the counts. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { type Look, type LookedAt, type Tally, type TalliedEvent, tally } from "@celery-metrics-exporter/task-store";
import { CODES, type HistogramFields, PREFETCH, gaugeCode } from "./fields.ts";
import { type LabelRegistry, SEPARATOR } from "./label-registry.ts";

export type HostnameLabel = "generic" | "host" | "worker";

export interface CountingOptions {
  /** Sets of name, queue and hostname. */
  readonly labels: LabelRegistry;
  readonly exceptions: LabelRegistry;
  readonly hostnames: LabelRegistry;
  readonly hostnameLabel: HostnameLabel;
  /** The queue of attempts of which no event tells it. */
  readonly defaultQueue: string;
  /** Whether to count what is in workers' memory before it starts. */
  readonly countsPrefetched?: boolean;
  readonly runtime: HistogramFields;
  readonly failedRuntime: HistogramFields;
  readonly wait: HistogramFields;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

const UNKNOWN_NAME = "unknown";
/** The label value of what is past a limit. */
export const OTHER = "other";
export const GENERIC_HOSTNAME = "generic";
/** As in celery-exporter. */
const UNKNOWN_EXCEPTION = "UnknownException";

/** Without any `task-sent` for this long, none is waited for: then clients do not send them. */
const UNSENT_AFTER_MS = 60_000;

interface Tallied extends Tally {
  readonly isFinalLook: boolean;
  /** Whether a missing queue may still be told. */
  readonly mayTellQueue: boolean;
}

interface LabelsOfSet {
  readonly name: string | undefined;
  readonly queue: string | undefined;
  readonly hostname: string | undefined;
  readonly set: string;
}

type OfWorker = Pick<TalliedEvent, "worker"> & Partial<Pick<TalliedEvent, "kind">>;

export class Counting {
  readonly #options: CountingOptions;
  readonly #now: () => number;
  /** Of name, queue and hostname. */
  readonly #sets: ComposedTexts;
  /** Of a label set's id and a code. */
  readonly #fields: ComposedTexts;
  #sentAt: number;
  /** The set that was composed last. Mostly the next one is the same. */
  #last: LabelsOfSet = { name: undefined, queue: undefined, hostname: undefined, set: "" };

  constructor(options: CountingOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#sentAt = this.#now();
    const sets = options.labels.max + 1;
    this.#sets = new ComposedTexts(SEPARATOR, STEPS_OF_SET * sets);
    this.#fields = new ComposedTexts(".", FIELDS_OF_SET * sets);
  }

  /** Notes whether clients send `task-sent`. */
  notice(events: readonly CeleryEvent[]): void {
    if (events.some(({ type }) => type === "task-sent")) this.#sentAt = this.#now();
  }

  /** What each task contributes. An event whose name or queue is missing contributes nothing, until it is not waited for any longer. */
  readonly lookAt = async (tasks: readonly LookedAt[]): Promise<Look[]> => {
    const mayTellQueue = this.#now() - this.#sentAt < UNSENT_AFTER_MS;
    const countsPrefetched = this.#options.countsPrefetched === true;
    const tallied = tasks.map((task): Tallied => {
      const { events, waiting, prefetched, ended } = tally(task);
      return { events, waiting, prefetched: countsPrefetched ? prefetched : undefined, ended, isFinalLook: task.isFinalLook, mayTellQueue };
    });
    const contributionOf = await this.#contributions(tallied);
    return tallied.map((each) => ({
      contribution: contributionOf(each),
      isIncomplete: each.events.some((event) => isOpen(event, each)),
      ended: each.ended,
    }));
  };

  /** Resolves the labels of all tasks at once. */
  async #contributions(tallied: readonly Tallied[]): Promise<(task: Tallied) => Map<string, number>> {
    const { labels, exceptions } = this.#options;
    const hostnameOf = await this.#hostnames(tallied);
    const sets = new Set<string>();
    const classes = new Set<string>();
    /** The set of each event that counts and of each waiting message, in order. */
    const setsOf = new Map<Tallied, string[]>();
    for (const task of tallied) {
      const own: string[] = [];
      for (const event of task.events) {
        if (isOpen(event, task)) continue;
        own.push(this.#setOf(event, hostnameOf(event)));
        if (event.kind === "failed") classes.add(exceptionOf(event));
      }
      for (const message of task.waiting) own.push(this.#setOf(message, GENERIC_HOSTNAME));
      const { prefetched } = task;
      if (prefetched !== undefined && !isOpen(prefetched, task)) own.push(this.#setOf(prefetched, hostnameOf(prefetched)));
      for (const set of own) sets.add(set);
      setsOf.set(task, own);
    }
    const ids = await labels.resolve(sets);
    const exceptionIds = classes.size === 0 ? ids : await exceptions.resolve(classes);
    return (task) => {
      const contribution = new Map<string, number>();
      const add = (set: string, code: string, by: number): void => {
        const field = this.#fields.of(ids.get(set) ?? labels.otherId, code);
        contribution.set(field, (contribution.get(field) ?? 0) + by);
      };
      const own = setsOf.get(task) ?? [];
      let next = 0;
      for (const event of task.events) {
        if (isOpen(event, task)) continue;
        const set = own[next++] ?? "";
        const exception = event.kind === "failed" ? (exceptionIds.get(exceptionOf(event)) ?? exceptions.otherId) : "";
        add(set, exception === "" ? CODES[event.kind] : `${CODES[event.kind]}${exception}`, 1);
        if (event.prefetch !== undefined && this.#options.countsPrefetched === true) {
          add(set, PREFETCH.count, 1);
          add(set, PREFETCH.sum, Math.round(event.prefetch * 1e6));
        }
        const [histogram, seconds] = this.#observed(event);
        if (seconds === undefined) continue;
        add(set, histogram.bucketOf(seconds), 1);
        const microseconds = Math.round(seconds * 1e6);
        if (microseconds !== 0) add(set, histogram.sum, microseconds);
      }
      for (const message of task.waiting) {
        add(own[next++] ?? "", gaugeCode("waiting", message.since), 1);
      }
      const { prefetched } = task;
      if (prefetched !== undefined && !isOpen(prefetched, task)) add(own[next] ?? "", gaugeCode("prefetched", prefetched.since), 1);
      return contribution;
    };
  }

  #observed({ kind, runtime, wait }: TalliedEvent): readonly [HistogramFields, number | undefined] {
    if (kind === "started") return [this.#options.wait, wait];
    return kind === "failed" ? [this.#options.failedRuntime, runtime] : [this.#options.runtime, runtime];
  }

  /** The value of the label `hostname` for each event and prefetched message. Never a client's: each client process has its own. */
  async #hostnames(tallied: readonly Tallied[]): Promise<(event: OfWorker) => string> {
    const { hostnames, hostnameLabel } = this.#options;
    if (hostnameLabel === "generic") return () => GENERIC_HOSTNAME;
    const nameOf = ({ worker = "" }: OfWorker): string => hostnameValue(worker, hostnameLabel);
    const events = tallied.flatMap(({ events: own, prefetched }): OfWorker[] => [
      ...own.filter(({ kind }) => kind !== "sent"),
      ...(prefetched === undefined ? [] : [prefetched]),
    ]);
    const ids = await hostnames.resolve(new Set(events.map(nameOf)));
    return (event) => {
      if (event.kind === "sent") return GENERIC_HOSTNAME;
      const name = nameOf(event);
      return ids.get(name) === hostnames.otherId ? OTHER : name;
    };
  }

  #setOf({ name, queue }: Pick<TalliedEvent, "name" | "queue">, hostname: string): string {
    const last = this.#last;
    if (name === last.name && queue === last.queue && hostname === last.hostname) return last.set;
    const set = this.#sets.of(this.#sets.of(name ?? UNKNOWN_NAME, queue ?? this.#options.defaultQueue), hostname);
    this.#last = { name, queue, hostname, set };
    return set;
  }
}

/** A set is composed in two steps, and occurs in about four fields. A flood of made-up names fills both. */
const STEPS_OF_SET = 2;
const FIELDS_OF_SET = 4;

/** Texts composed of two, the same text each time: one that is built anew is hashed anew by each map that it is looked up in. */
class ComposedTexts {
  readonly #separator: string;
  readonly #most: number;
  readonly #texts = new Map<string, Map<string, string>>();
  #size = 0;

  /** @param most texts that are remembered. */
  constructor(separator: string, most: number) {
    this.#separator = separator;
    this.#most = most;
  }

  of(first: string, second: string): string {
    const texts = this.#texts.get(first);
    const known = texts?.get(second);
    if (known !== undefined) return known;
    const text = `${first}${this.#separator}${second}`;
    if (this.#size >= this.#most) {
      this.#texts.clear();
      this.#size = 0;
    }
    this.#size += 1;
    const own = this.#texts.get(first);
    if (own === undefined) this.#texts.set(first, new Map([[second, text]]));
    else own.set(second, text);
    return text;
  }
}

/** @param worker its full name. */
export function hostnameValue(worker: string, label: Exclude<HostnameLabel, "generic">): string {
  return label === "host" ? worker.slice(worker.indexOf("@") + 1) : worker;
}

/** Whether the event cannot be counted yet. */
function isOpen({ name, queue }: Pick<TalliedEvent, "name" | "queue">, { isFinalLook, mayTellQueue }: Tallied): boolean {
  return !isFinalLook && (name === undefined || (queue === undefined && mayTellQueue));
}

function exceptionOf({ exception }: TalliedEvent): string {
  return exception ?? UNKNOWN_EXCEPTION;
}
