/** What tasks count as: from the events of a task to fields of the counts. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { type Look, type LookedAt, type TalliedEvent, contribute, tally } from "@celery-metrics-exporter/task-store";
import { CODES, type HistogramFields, PREFETCH, gaugeCode } from "./fields.ts";
import { type LabelRegistry, type LookUp, SEPARATOR } from "./label-registry.ts";

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

/** The ids of labels, as far as they are known, for one look at some tasks. */
interface Ids {
  readonly labels: LookUp;
  readonly exceptions: LookUp;
  readonly hostnames: LookUp;
}

/** What one task contributes, while that is being worked out. */
interface Counted {
  readonly contribution: (string | number)[];
  readonly ids: Ids;
}

interface LabelsOfSet {
  readonly name: string | undefined;
  readonly queue: string | undefined;
  readonly hostname: string | undefined;
  readonly set: string;
}

type Labelled = Pick<TalliedEvent, "name" | "queue">;

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
    const { labels, exceptions, hostnames } = this.#options;
    const ids: Ids = { labels: labels.lookUp(), exceptions: exceptions.lookUp(), hostnames: hostnames.lookUp() };
    for (;;) {
      const looks = tasks.map((task) => this.#look(task, mayTellQueue, ids));
      const asked = [await ids.hostnames.ask(), await ids.exceptions.ask(), await ids.labels.ask()];
      if (!asked.includes(true)) return looks;
    }
  };

  /** @param mayTellQueue whether a missing queue may still be told. */
  #look(task: LookedAt, mayTellQueue: boolean, ids: Ids): Look {
    const { events, waiting, prefetched, ended } = tally(task);
    const isOpen = ({ name, queue }: Labelled): boolean => {
      return !task.isFinalLook && (name === undefined || (queue === undefined && mayTellQueue));
    };
    const counted: Counted = { contribution: [], ids };
    let isIncomplete = false;
    for (const event of events) {
      if (isOpen(event)) isIncomplete = true;
      else this.#count(event, counted);
    }
    for (const message of waiting) this.#add(counted, this.#idOf(message, GENERIC_HOSTNAME, ids), gaugeCode("waiting", message.since), 1);
    if (prefetched !== undefined && this.#options.countsPrefetched === true && !isOpen(prefetched)) {
      const id = this.#idOf(prefetched, this.#hostnameOf(prefetched.worker, ids), ids);
      this.#add(counted, id, gaugeCode("prefetched", prefetched.since), 1);
    }
    return { contribution: counted.contribution, isIncomplete, ended };
  }

  #count(event: TalliedEvent, counted: Counted): void {
    const { kind, prefetch } = event;
    const { ids } = counted;
    const id = this.#idOf(event, kind === "sent" ? GENERIC_HOSTNAME : this.#hostnameOf(event.worker, ids), ids);
    const exception = kind === "failed" ? ids.exceptions.idOf(event.exception ?? UNKNOWN_EXCEPTION) : "";
    if (exception !== undefined) this.#add(counted, id, `${CODES[kind]}${exception}`, 1);
    if (prefetch !== undefined && this.#options.countsPrefetched === true) {
      this.#add(counted, id, PREFETCH.count, 1);
      this.#add(counted, id, PREFETCH.sum, Math.round(prefetch * 1e6));
    }
    const [histogram, seconds] = this.#observed(event);
    if (seconds === undefined) return;
    this.#add(counted, id, histogram.bucketOf(seconds), 1);
    this.#add(counted, id, histogram.sum, Math.round(seconds * 1e6));
  }

  /** @param id undefined if it is missing: then the look is not the last one. */
  #add({ contribution }: Counted, id: string | undefined, code: string, by: number): void {
    if (id !== undefined) contribute(contribution, this.#fields.of(id, code), by);
  }

  #observed({ kind, runtime, wait }: TalliedEvent): readonly [HistogramFields, number | undefined] {
    if (kind === "started") return [this.#options.wait, wait];
    return kind === "failed" ? [this.#options.failedRuntime, runtime] : [this.#options.runtime, runtime];
  }

  /** The value of the label `hostname` of an event or prefetched message. Never a client's: each client process has its own. Undefined if it is missing. */
  #hostnameOf(worker: string | undefined, ids: Ids): string | undefined {
    const { hostnames, hostnameLabel } = this.#options;
    if (hostnameLabel === "generic") return GENERIC_HOSTNAME;
    const name = hostnameValue(worker ?? "", hostnameLabel);
    const id = ids.hostnames.idOf(name);
    if (id === undefined) return undefined;
    return id === hostnames.otherId ? OTHER : name;
  }

  /** The id of the set of these labels. Undefined if it is missing. */
  #idOf(labelled: Labelled, hostname: string | undefined, { labels }: Ids): string | undefined {
    return hostname === undefined ? undefined : labels.idOf(this.#setOf(labelled, hostname));
  }

  #setOf({ name, queue }: Labelled, hostname: string): string {
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
