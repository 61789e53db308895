/** What a process knows about how a sink treats items of each kind: the evidence for and against refused items. */
import { createHash } from "node:crypto";

/** How items are grouped. */
export interface Likeness<T> {
  /** A sink is likely to treat items of the same kind alike. The number of kinds must be small, whatever clients send. */
  readonly kindOf: (item: T) => string;
  /** What an item is about. A sink may merge the items of one subject, and then accept together what it would refuse one by one. */
  readonly subjectOf?: (item: T) => string | undefined;
}

/** An item that was refused alone. */
interface HeldItem {
  readonly kind: string;
  readonly subject: string | undefined;
  /** How many of its kind had got through before. */
  readonly takenBefore: number;
}

/** A job that is held in its queue, or was put off. */
interface HeldJob {
  /** Increases with each job that is newly held. */
  readonly order: number;
  readonly begun: number;
  readonly at: number;
  readonly suspects: ReadonlyMap<string, HeldItem>;
}

const MOST_JOBS = 1_000;
/** How long a held job is remembered. Another process may have taken it, without any notice to this one. */
const FORGOTTEN_AFTER_MS = 600_000;

export class Evidence<T> {
  readonly #likeness: Likeness<T>;
  readonly #now: () => number;
  /** Counted only while an item is refused or held. */
  readonly #taken = new Map<string, number>();
  /** Kinds of which an item was refused, and nothing has got through since. */
  readonly #wanted = new Set<string>();
  readonly #held = new Map<string, HeldJob>();
  #jobs = 0;

  constructor(likeness: Likeness<T>, now: () => number = () => performance.now()) {
    this.#likeness = likeness;
    this.#now = now;
  }

  /** How many items of each kind have got through. */
  get taken(): ReadonlyMap<string, number> {
    return this.#taken;
  }

  /** Whether evidence is needed. */
  get isWanted(): boolean {
    return this.#wanted.size > 0 || this.#held.size > 0;
  }

  /**
   * Counts items that got through for the first time. An item together with others of its subject does not count, because the sink may have
   * merged them.
   *
   * @param most the number of items for which the sink had something to do.
   */
  add(items: readonly T[], most = Number.POSITIVE_INFINITY): void {
    const subjects = items.map((item) => this.#likeness.subjectOf?.(item));
    const times = new Map<string | undefined, number>();
    for (const subject of subjects) times.set(subject, (times.get(subject) ?? 0) + 1);
    const alone = items.filter((_, index) => subjects[index] === undefined || times.get(subjects[index]) === 1);
    for (const item of alone.slice(0, most)) {
      const kind = this.#likeness.kindOf(item);
      this.#taken.set(kind, (this.#taken.get(kind) ?? 0) + 1);
      this.#wanted.delete(kind);
    }
  }

  /** Asks for evidence, because an item of this kind was refused alone. */
  want(kind: string): void {
    this.#wanted.add(kind);
  }

  /** Splits items so that the first item of a wanted kind is tried alone, without others of its subject. */
  pieces(items: readonly T[]): (readonly T[])[] {
    const at = this.#wanted.size > 0 ? items.findIndex((item) => this.#wanted.has(this.#likeness.kindOf(item))) : -1;
    if (at < 0) return [items];
    return [items.slice(0, at), items.slice(at, at + 1), items.slice(at + 1)].filter(({ length }) => length > 0);
  }

  /** Whether no item of this job can have got through before (except events that the broker delivered twice). */
  isFresh({ id, begun }: { readonly id: string; readonly begun: number }): boolean {
    return begun === 1 || this.#held.get(id)?.begun === begun - 1;
  }

  /** If this item of a held job was refused alone: how many of its kind had got through before that. */
  takenBefore(jobId: string, item: T): number | undefined {
    return this.#held.get(jobId)?.suspects.get(keyOf(item))?.takenBefore;
  }

  /** The refused items of other held jobs: the kinds of all, and the subjects of those that were held before this job. */
  beside(jobId: string): { readonly kinds: readonly string[]; readonly subjects: readonly (string | undefined)[] } {
    const order = this.#held.get(jobId)?.order ?? Number.POSITIVE_INFINITY;
    const others = [...this.#held].flatMap(([id, job]) => (id === jobId ? [] : [job]));
    return {
      kinds: itemsOf(others).map(({ kind }) => kind),
      subjects: itemsOf(others.filter((job) => job.order < order)).map(({ subject }) => subject),
    };
  }

  /**
   * @param suspects items that were refused alone, with how many of their kind had got through before.
   * @param others items that were not tried this time.
   */
  hold(job: { readonly id: string; readonly begun: number }, suspects: readonly (readonly [T, number])[], others: readonly T[] = []): void {
    const { id, begun } = job;
    const { kindOf, subjectOf } = this.#likeness;
    const before = this.#held.get(id)?.suspects ?? new Map<string, HeldItem>();
    const known = new Map<string, HeldItem>();
    for (const key of before.size > 0 ? others.map(keyOf) : []) {
      const item = before.get(key);
      if (item !== undefined) known.set(key, item);
    }
    for (const [item, takenBefore] of suspects) known.set(keyOf(item), { kind: kindOf(item), subject: subjectOf?.(item), takenBefore });
    this.#remember({ id, begun }, known);
  }

  /** The job was begun, but nothing of it was tried. */
  putOff(job: { readonly id: string; readonly begun: number }): void {
    if (this.isFresh(job)) this.#remember(job, this.#held.get(job.id)?.suspects ?? new Map());
  }

  #remember({ id, begun }: { readonly id: string; readonly begun: number }, suspects: HeldJob["suspects"]): void {
    const order = this.#held.get(id)?.order ?? ++this.#jobs;
    // Removed and added again, so that the jobs not seen for the longest time come first.
    this.release(id);
    this.#held.set(id, { order, begun, at: this.#now(), suspects });
    for (const [oldest, { at }] of this.#held) {
      if (this.#held.size <= MOST_JOBS && this.#now() - at < FORGOTTEN_AFTER_MS) break;
      this.#held.delete(oldest);
    }
  }

  /** The job is done. */
  release(jobId: string): void {
    this.#held.delete(jobId);
  }
}

function itemsOf(jobs: readonly HeldJob[]): HeldItem[] {
  return jobs.flatMap(({ suspects }) => [...suspects.values()]);
}

/** A short key that is the same for equal items. */
export function keyOf(item: unknown): string {
  return createHash("sha1").update(JSON.stringify(item)).digest("base64");
}

// What to do with a job that may have killed the process it ran in, for example by filling its memory.

/**
 * How often a job may stall before it becomes a suspect, and how often a suspect may kill before it is buried. After a kill, every job that
 * was active in the process stalls, including the innocent ones. So:
 *
 *   1. A job that stalled three times becomes a suspect. It is not read before, because reading it may be what kills. Each step of a
 *      suspect runs alone in its process if possible, and is noted on the job while it runs (`Solitude`).
 *   2. A suspect that was running alone when its process died is split at once. Its stalls mean nothing, because suspects also stall while
 *      they wait for their turn.
 *   3. A suspect of one event gets three chances, because kills have other causes too (a deployment, the out-of-memory killer). Then it is
 *      buried. If it kills even then, it can be neither read nor split, and is buried unread.
 */
const CHANCES = 3;

export interface JobHistory {
  readonly suspect: boolean;
  /** How often a process died, or lost Redis, while it had the job. */
  readonly stalls: number;
  /** How often a process died while the job was running alone. */
  readonly deaths: number;
}

/** `run` it; make it a `suspect`; or `bury` it in the dead-letter queue, unread. */
export function judge({ suspect, stalls, deaths }: JobHistory): "run" | "suspect" | "bury" {
  if (!suspect) return stalls < CHANCES ? "run" : "suspect";
  return deaths > CHANCES ? "bury" : "run";
}

/**
 * What to do with a suspect once it is read: `run` it, `split` it into suspects, or `bury` it in the dead-letter queue.
 *
 * @param size number of events or ids.
 */
export function judgeSuspect(deaths: number, size: number): "run" | "split" | "bury" {
  if (size > 1) return deaths === 0 ? "run" : "split";
  return deaths < CHANCES ? "run" : "bury";
}

/** Splits items into two halves, of which the first may be larger by one. Does not split a single item. */
export function halves<T>(items: readonly T[]): (readonly T[])[] {
  if (items.length < 2) return [items];
  const middle = Math.ceil(items.length / 2);
  return [items.slice(0, middle), items.slice(middle)];
}

/**
 * Limits how fast events may become dead letters: the dead-letter queue is bounded, so a flood of burials would push others out. A token
 * bucket: `perMinute` at once, and as many again each minute.
 */
export class BurialLimit {
  readonly #perMinute: number;
  readonly #now: () => number;
  #left: number;
  #at: number;

  /** @param now milliseconds, monotonic. */
  constructor(perMinute = 100, now: () => number = () => performance.now()) {
    this.#perMinute = perMinute;
    this.#now = now;
    this.#left = perMinute;
    this.#at = now();
  }

  /** Whether one more burial is allowed now; if so, it counts. */
  take(): boolean {
    const now = this.#now();
    this.#left = Math.min(this.#perMinute, this.#left + ((now - this.#at) / 60_000) * this.#perMinute);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
